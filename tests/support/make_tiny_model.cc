// tandem-make-tiny-model OUT: writes the random model that tests without a real one use.
#include <cstdio>

#include "tests/support/tiny_model.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: tandem-make-tiny-model OUT.gguf\n");
    return 2;
  }
  tandem::testing::WriteTinyModel(argv[1], {.max_context = 2048});
}
