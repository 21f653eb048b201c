// libFuzzer target: whatever the bytes, the safetensors reader answers with a file that is safe to
// read or with an error. Sanitizers are the judges.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "common/huggingface/safetensors.h"

namespace {
volatile size_t sink = 0;  // keeps the reads from being optimized away
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using tandem::huggingface::SafetensorsFile;
  const auto file = SafetensorsFile::Parse(std::as_bytes(std::span(data, size)), "fuzz");
  if (!file.ok()) {
    if (tandem::Message(file.status()).find('\n') != std::string_view::npos) std::abort();
    return 0;
  }
  size_t covered = 8 + (*file)->header().size();
  for (const auto& tensor : (*file)->tensors()) {
    if (tensor.rows() < 1 || tensor.cols() < 1 || tensor.data.empty()) std::abort();
    covered += tensor.data.size();
    sink =
        sink + static_cast<size_t>(tensor.data.front()) + static_cast<size_t>(tensor.data.back());
  }
  if (covered != size) std::abort();
  return 0;
}
