// What a fuzz target asserts. Not assert(): it must hold in every build type.
#pragma once

#include <stdio.h>
#include <stdlib.h>

#define FUZZ_CHECK(condition)                                                               \
  do {                                                                                      \
    if (!(condition)) {                                                                     \
      fprintf(stderr, "%s:%d: oracle does not hold: %s\n", __FILE__, __LINE__, #condition); \
      abort();                                                                              \
    }                                                                                       \
  } while (false)
