// A GGUF v3 file, read through mmap: metadata by key, tensors as views into the file. Knows the
// format, not what the keys mean. Format: the GGUF specification of the ggml project
// (docs/gguf.md there).
//
// Hostile input: every length and offset is checked against the file before use; a file that passes
// Open() can be read through this class without further checks. Errors say which key or tensor and
// at which byte. Thread: immutable after Open, any thread. Memory: views borrow from this object.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace tandem::gguf {

enum class TensorType : uint32_t {  // ggml's numbers
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ8_0 = 8,
  // Types that exist but are not supported are kept by number, so that errors can name them.
};

const char* TypeName(TensorType type);  // "Q4_1"; "type 12 (Q4_K)" for known, unsupported ones
bool IsSupported(TensorType type);
int BlockElements(TensorType type);  // REQUIRES: IsSupported
int BlockBytes(TensorType type);     // REQUIRES: IsSupported

struct Tensor {
  std::string_view name;
  TensorType type = TensorType::kF32;
  int num_dims = 0;
  // As GGUF has them: dims[0] is the contiguous one. A matrix of N rows and K columns (out, in) has
  // dims {K, N}.
  std::array<int64_t, 4> dims = {1, 1, 1, 1};
  std::span<const std::byte> data;  // empty if the type is not supported
  int64_t cols() const { return dims[0]; }
  int64_t rows() const { return dims[1] * dims[2] * dims[3]; }
};

class File {
 public:
  static StatusOr<std::unique_ptr<File>> Open(const std::string& path);
  // Borrows `bytes`; `name` is used in errors. For tests and fuzzing.
  static StatusOr<std::unique_ptr<File>> Parse(std::span<const std::byte> bytes, std::string name);
  virtual ~File() = default;

  virtual const std::string& name() const = 0;

  // kNotFound without the key, kInvalidArgument if it has another type (integers of any width and
  // sign are read as int64; floats as double).
  virtual bool Has(std::string_view key) const = 0;
  virtual StatusOr<int64_t> GetInt(std::string_view key) const = 0;
  virtual StatusOr<double> GetFloat(std::string_view key) const = 0;
  virtual StatusOr<bool> GetBool(std::string_view key) const = 0;
  virtual StatusOr<std::string_view> GetString(std::string_view key) const = 0;
  virtual StatusOr<std::vector<std::string_view>> GetStrings(std::string_view key) const = 0;
  virtual StatusOr<std::vector<int64_t>> GetInts(std::string_view key) const = 0;
  virtual StatusOr<std::vector<double>> GetFloats(std::string_view key) const = 0;

  virtual std::span<const Tensor> tensors() const = 0;
  virtual const Tensor* Find(std::string_view name) const = 0;  // null: none

  // Hash over header, metadata and tensor directory (not the weights' bytes, but their layout) and
  // the file's size, as 32 hex digits: what router and workers compare to agree on the model.
  virtual std::string Fingerprint() const = 0;
};

}  // namespace tandem::gguf
