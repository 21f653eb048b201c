// Fills a File from its bytes; the checks that make a File safe to read are here. Internal to
// common/gguf.
#pragma once

#include <memory>
#include <string>

#include "common/gguf/cursor.h"
#include "common/gguf/gguf_file.h"

namespace tandem::gguf {

class FileParser {
 public:
  FileParser(std::span<const std::byte> bytes, std::string name);

  // One call. The bytes must outlive the file.
  StatusOr<std::unique_ptr<File>> Parse();

 private:
  Status ParseHeader();
  Status ParseMetadata();
  Status ParseEntry();
  Status CheckValueType(uint32_t type) const;
  Status SkipValue(uint32_t type, int depth);
  Status SkipArray(uint32_t element, uint64_t count, int depth);
  Status CheckDuplicateKeys();
  Status ReadAlignment();
  Status ParseDirectory();
  Status ParseTensor(Tensor& tensor, uint64_t& offset);
  Status CheckDuplicateTensors();
  Status PlaceTensors();
  Status PlaceTensor(Tensor& tensor, uint64_t offset) const;

  template <class... Args>
  Status Error(fmt::format_string<Args...> format, Args&&... args) const;
  Status Truncated(std::string_view what) const;

  std::unique_ptr<File> file_;
  Cursor cursor_;
  std::string_view key_;  // being parsed, for errors
  uint64_t num_tensors_ = 0;
  uint64_t num_entries_ = 0;
  uint64_t alignment_ = 32;  // GGUF's default
  uint64_t data_start_ = 0;
  std::vector<uint64_t> offsets_;  // of tensors, from data_start_
};

}  // namespace tandem::gguf
