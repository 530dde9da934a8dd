# signet_options carries what every target of ours is compiled with; linking it is the only way to get it.
add_library(signet_options INTERFACE)
target_compile_features(signet_options INTERFACE cxx_std_20)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

target_include_directories(signet_options INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(signet_options INTERFACE -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion
  -Wno-missing-field-initializers  # designated initialisers name what they set
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>)
option(SIGNET_WERROR "Warnings are errors (set by the presets)" OFF)
if(SIGNET_WERROR)
  target_compile_options(signet_options INTERFACE -Werror)
endif()

# Hardening on every build, as Debian does it: PIE, full RELRO, stack protector, stack clash protection, CET.
target_compile_options(signet_options INTERFACE -fstack-protector-strong -fstack-clash-protection -fcf-protection)
target_link_options(signet_options INTERFACE -Wl,-z,relro,-z,now)
if(NOT CMAKE_BUILD_TYPE STREQUAL "Debug" AND NOT SIGNET_SANITIZE)
  target_compile_definitions(signet_options INTERFACE _FORTIFY_SOURCE=2)
endif()
include(CheckPIESupported)
check_pie_supported()

set(SIGNET_SANITIZE "" CACHE STRING "address,undefined or thread")
if(SIGNET_SANITIZE)
  target_compile_options(signet_options INTERFACE -fsanitize=${SIGNET_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all
    $<$<CXX_COMPILER_ID:Clang>:-fno-sanitize=function>)  # clang 14 cannot assemble coroutines with it
  target_link_options(signet_options INTERFACE -fsanitize=${SIGNET_SANITIZE})
  # g++ says of each atomic_thread_fence (Boost.Asio's) that the sanitizer does not see it.
  if(SIGNET_SANITIZE STREQUAL "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(signet_options INTERFACE -Wno-tsan)
  endif()
  # Every program shows the sanitizer how the distribution's gRPC orders its threads; see the file.
  if(SIGNET_SANITIZE STREQUAL "thread")
    add_library(signet_tsan_order STATIC ${CMAKE_SOURCE_DIR}/tools/dev/tsan_order.cc)
    target_compile_features(signet_tsan_order PRIVATE cxx_std_20)
    target_link_libraries(signet_tsan_order PRIVATE gRPC::grpc++ absl::synchronization ${CMAKE_DL_LIBS})
    target_link_libraries(signet_options INTERFACE "$<LINK_LIBRARY:WHOLE_ARCHIVE,signet_tsan_order>")
  endif()
endif()
if(SIGNET_BUILD_FUZZERS)  # coverage for libFuzzer in all that a target links; fuzz targets add its main
  target_compile_options(signet_options INTERFACE -fsanitize=fuzzer-no-link)
  target_link_options(signet_options INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(SIGNET_FAILPOINTS)
  target_compile_definitions(signet_options INTERFACE SIGNET_FAILPOINTS=1)
endif()

find_program(SIGNET_MOLD mold)
if(SIGNET_MOLD)
  target_link_options(signet_options INTERFACE -fuse-ld=mold)
endif()
