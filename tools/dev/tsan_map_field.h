// In the tsan preset, and only there, found before protobuf's file of this name. That one gives every map field two
// more members when it is compiled for ThreadSanitizer, by which it makes races of its own; the distribution's
// libprotobuf is not, and a google.protobuf.Struct made there has its map elsewhere than our code looks for it. So this
// one header is read as the library was built. What it includes comes first, under the true flags.
#ifndef SIGNET_TSAN_MAP_FIELD_H_
#define SIGNET_TSAN_MAP_FIELD_H_

#include <google/protobuf/map_entry.h>
#include <google/protobuf/map_field_lite.h>
#include <google/protobuf/map_type_handler.h>
#include <google/protobuf/message.h>
#include <google/protobuf/unknown_field_set.h>

#pragma push_macro("__SANITIZE_THREAD__")
#undef __SANITIZE_THREAD__
#include_next <google/protobuf/map_field.h>
#pragma pop_macro("__SANITIZE_THREAD__")

#endif  // SIGNET_TSAN_MAP_FIELD_H_
