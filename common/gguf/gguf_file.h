// A GGUF v3 file, read through mmap: metadata by key, tensors as views into the file. Knows the
// format, not what the keys mean. Format: the GGUF specification of the ggml project
// (docs/gguf.md there).
//
// Hostile input: every length and offset is checked against the file before use; a file that passes
// Open() can be read through this class without further checks. Errors say which key or tensor and
// at which byte. The file must not shrink while it is open: the kernel answers reads past the new
// end with SIGBUS.
// Thread: immutable after Open, any thread. Memory: views borrow from this object; what it
// allocates is at most a few times the size of the metadata and tensor directory in the file.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/mapped_file.h"
#include "common/status.h"

namespace tandem::gguf {

enum class TensorType : uint32_t {  // ggml's numbers
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2K = 10,
  kQ3K = 11,
  kQ4K = 12,
  kQ5K = 13,
  kQ6K = 14,
  kIq4Nl = 20,
  kBf16 = 30,
  // Types that exist but are not supported are kept by number, so that errors can name them.
};

const char* TypeName(TensorType type);  // "Q4_1"; "Q4_K" too; "unknown" for numbers never heard of
bool IsSupported(TensorType type);
std::string SupportedTypes();        // "F32, F16, ...": for errors
int BlockElements(TensorType type);  // REQUIRES: IsSupported
int BlockBytes(TensorType type);     // REQUIRES: IsSupported

struct Tensor {
  std::string_view name;
  TensorType type = TensorType::kF32;
  int num_dims = 0;
  // As GGUF has them: dims[0] is the contiguous one. A matrix of N rows and K columns (out, in) has
  // dims {K, N}. Each is at least 1, and so is their product (it fits int64).
  std::array<int64_t, 4> dims = {1, 1, 1, 1};
  // All of the tensor, aligned to at least 8 bytes; empty if the type is not supported.
  std::span<const std::byte> data;
  int64_t cols() const { return dims[0]; }
  int64_t rows() const { return dims[1] * dims[2] * dims[3]; }
};

class File {
 public:
  static StatusOr<std::unique_ptr<File>> Open(const std::string& path);
  // Borrows `bytes`; `name` is used in errors. For tests and fuzzing.
  // REQUIRES: bytes.data() is aligned as malloc aligns.
  static StatusOr<std::unique_ptr<File>> Parse(std::span<const std::byte> bytes, std::string name);
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  const std::string& name() const { return name_; }

  // kNotFound without the key, kInvalidArgument if it has another type (integers of any width and
  // sign are read as int64; floats as double).
  bool Has(std::string_view key) const { return FindEntry(key) != nullptr; }
  StatusOr<int64_t> GetInt(std::string_view key) const;
  StatusOr<double> GetFloat(std::string_view key) const;
  StatusOr<bool> GetBool(std::string_view key) const;
  StatusOr<std::string_view> GetString(std::string_view key) const;
  StatusOr<std::vector<std::string_view>> GetStrings(std::string_view key) const;
  StatusOr<std::vector<int64_t>> GetInts(std::string_view key) const;
  StatusOr<std::vector<double>> GetFloats(std::string_view key) const;

  std::span<const Tensor> tensors() const { return tensors_; }  // in the file's order
  const Tensor* Find(std::string_view name) const;              // null: none

  // Hash over header, metadata and tensor directory (not the weights' bytes, but their layout) and
  // the file's size, as 32 hex digits: what router and workers compare to agree on the model.
  std::string Fingerprint() const;

 private:
  friend class FileParser;

  struct Entry {  // one metadata key
    std::string_view key;
    uint32_t type = 0;  // of the value, or of the elements of an array
    bool is_array = false;
    uint64_t count = 1;     // elements of an array
    uint64_t position = 0;  // of the value or the first element, in bytes_
  };

  File() = default;
  const Entry* FindEntry(std::string_view key) const;
  StatusOr<const Entry*> Get(std::string_view key, bool is_array) const;
  Status WrongType(const Entry& entry, const char* wanted) const;

  std::string name_;
  std::span<const std::byte> bytes_;
  MappedFile mapping_;  // of bytes_; nothing for Parse()
  uint64_t directory_end_ = 0;
  std::vector<Entry> entries_;  // by key
  std::vector<Tensor> tensors_;
  std::vector<uint32_t> tensors_by_name_;
};

}  // namespace tandem::gguf
