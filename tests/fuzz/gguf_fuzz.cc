// libFuzzer target: whatever the bytes, the GGUF reader answers with a file that is safe to read or
// with an error. Sanitizers are the judges.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>

#include "common/gguf/gguf_file.h"

namespace {

using tandem::gguf::File;
using tandem::gguf::Tensor;

// Keys that the seeds carry and readers ask for.
constexpr const char* kKeys[] = {
    "general.alignment",     "general.architecture",
    "llama.block_count",     "llama.rope.freq_base",
    "tokenizer.ggml.tokens", "tokenizer.ggml.token_type",
    "tokenizer.ggml.scores", "k",
};

volatile size_t sink = 0;  // keeps the reads from being optimized away

void ReadMetadata(const File& file) {
  for (const char* key : kKeys) {
    size_t sum = file.GetInt(key).ok() + file.GetFloat(key).ok() + file.GetBool(key).ok();
    if (auto value = file.GetString(key); value.ok()) {
      sum += static_cast<size_t>(std::count(value->begin(), value->end(), 'a'));
    }
    if (auto values = file.GetStrings(key); values.ok()) {
      for (std::string_view s : *values) {
        sum += static_cast<size_t>(std::count(s.begin(), s.end(), 'a'));
      }
    }
    if (auto values = file.GetInts(key); values.ok()) sum += values->size();
    if (auto values = file.GetFloats(key); values.ok()) sum += values->size();
    sink = sink + sum;
  }
}

void ReadTensors(const File& file) {
  for (const Tensor& tensor : file.tensors()) {
    if (file.Find(tensor.name) != &tensor) std::abort();
    if (!IsSupported(tensor.type)) {
      if (!tensor.data.empty()) std::abort();
      continue;
    }
    const auto blocks = tensor.cols() / BlockElements(tensor.type) * tensor.rows();
    if (tensor.data.size() != static_cast<size_t>(blocks * BlockBytes(tensor.type))) std::abort();
    if (reinterpret_cast<uintptr_t>(tensor.data.data()) % 8 != 0) std::abort();
    sink =
        sink + static_cast<size_t>(tensor.data.front()) + static_cast<size_t>(tensor.data.back());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto file = File::Parse(std::as_bytes(std::span(data, size)), "fuzz");
  if (!file.ok()) {
    if (tandem::Message(file.status()).find('\n') != std::string_view::npos) std::abort();
    return 0;
  }
  ReadMetadata(**file);
  ReadTensors(**file);
  sink = sink + (*file)->Fingerprint().size();
  return 0;
}
