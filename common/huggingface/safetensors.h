// One safetensors file, read through mmap: named tensors as views into it. Format: eight bytes of
// little-endian header length, a JSON header {"name": {"dtype", "shape", "data_offsets"}}, then the
// tensors' bytes without gaps (github.com/huggingface/safetensors).
//
// Hostile input: every number of the header is checked against the file before use; a file that
// passes Open() can be read through this class without further checks. Errors name the tensor.
// Thread: immutable after Open, any thread. Memory: views borrow from this object; beyond the
// mapping it holds what the header says, at most some ten times the header's bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/mapped_file.h"
#include "common/status.h"

namespace tandem::huggingface {

enum class DType : uint8_t { kF32, kF16, kBf16, kOther };

struct Tensor {
  std::string name;
  DType dtype = DType::kOther;
  std::string dtype_name;  // "F32"; what kOther is
  // As PyTorch has them: the last dimension is the contiguous one. Each is at least 1; none: a
  // scalar.
  std::vector<int64_t> shape;
  std::span<const std::byte> data;  // all of the tensor; not aligned to anything
  int64_t cols() const { return shape.empty() ? 1 : shape.back(); }
  int64_t rows() const;  // product of the other dimensions
};

class SafetensorsFile {
 public:
  static StatusOr<std::unique_ptr<SafetensorsFile>> Open(const std::string& path);
  // Borrows `bytes`; `name` is used in errors. For tests and fuzzing.
  static StatusOr<std::unique_ptr<SafetensorsFile>> Parse(std::span<const std::byte> bytes,
                                                          std::string name);
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::string& name() const { return name_; }
  std::span<const Tensor> tensors() const { return tensors_; }  // by their place in the file
  std::string_view header() const { return header_; }           // the JSON
  size_t size() const { return size_; }                         // of the file

 private:
  SafetensorsFile() = default;

  std::string name_;
  MappedFile mapping_;  // of what follows; nothing for Parse()
  std::string_view header_;
  size_t size_ = 0;
  std::vector<Tensor> tensors_;
};

}  // namespace tandem::huggingface
