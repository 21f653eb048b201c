// Writes GGUF files in memory, legal ones and others, for tests of whatever reads them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::gguf {

class GgufBuilder {
 public:
  // The value types of the specification that tests write.
  enum Type : uint32_t {
    kUint32 = 4,
    kInt32 = 5,
    kFloat32 = 6,
    kBool = 7,
    kString = 8,
    kArray = 9
  };

  GgufBuilder& Uint32(std::string_view key, uint32_t v) { return Scalar(key, kUint32, v); }
  GgufBuilder& Float32(std::string_view key, float v) { return Scalar(key, kFloat32, v); }
  GgufBuilder& Bool(std::string_view key, bool v) { return Scalar(key, kBool, uint8_t{v}); }

  GgufBuilder& String(std::string_view key, std::string_view value) {
    Key(key, kString);
    PutString(metadata_, value);
    return *this;
  }

  GgufBuilder& Strings(std::string_view key, std::span<const std::string> values) {
    ArrayHeader(key, kString, values.size());
    for (const std::string& value : values) PutString(metadata_, value);
    return *this;
  }

  GgufBuilder& Ints(std::string_view key, std::span<const int32_t> values) {
    ArrayHeader(key, kInt32, values.size());
    for (const int32_t value : values) Put(metadata_, value);
    return *this;
  }

  GgufBuilder& Floats(std::string_view key, std::span<const float> values) {
    ArrayHeader(key, kFloat32, values.size());
    for (const float value : values) Put(metadata_, value);
    return *this;
  }

  // A value as the caller spells it: for types and lengths that are wrong.
  template <class T>
  GgufBuilder& Scalar(std::string_view key, uint32_t type, T value) {
    Key(key, type);
    Put(metadata_, value);
    return *this;
  }
  GgufBuilder& ArrayHeader(std::string_view key, uint32_t element, uint64_t count) {
    Key(key, kArray);
    Put(metadata_, element);
    Put(metadata_, count);
    return *this;
  }

  // Appends a tensor whose data follows that of the one before, aligned.
  GgufBuilder& Tensor(std::string_view name, std::vector<uint64_t> dims, uint32_t type,
                      std::span<const std::byte> data) {
    data_.resize((data_.size() + alignment_ - 1) / alignment_ * alignment_);
    TensorAt(name, dims, type, data_.size());
    data_.append(reinterpret_cast<const char*>(data.data()), data.size());
    return *this;
  }
  GgufBuilder& F32(std::string_view name, std::vector<uint64_t> dims, std::span<const float> data) {
    return Tensor(name, std::move(dims), 0, std::as_bytes(data));
  }
  // Only the entry in the directory.
  GgufBuilder& TensorAt(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                        uint64_t offset) {
    ++num_tensors_;
    PutString(directory_, name);
    Put(directory_, static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) Put(directory_, dim);
    Put(directory_, type);
    Put(directory_, offset);
    return *this;
  }

  // Writes general.alignment too. REQUIRES: before the first tensor.
  GgufBuilder& Alignment(uint32_t alignment) {
    alignment_ = alignment;
    return Uint32("general.alignment", alignment);
  }
  GgufBuilder& Version(uint32_t version) { return version_ = version, *this; }
  GgufBuilder& AddToCounts(uint64_t tensors, uint64_t keys) {
    num_tensors_ += tensors;
    num_keys_ += keys;
    return *this;
  }

  std::string Build() const {
    std::string file = "GGUF";
    Put(file, version_);
    Put(file, num_tensors_);
    Put(file, num_keys_);
    file += metadata_ + directory_;
    if (!data_.empty()) file.resize((file.size() + alignment_ - 1) / alignment_ * alignment_);
    return file + data_;
  }

 private:
  template <class T>
  static void Put(std::string& out, T value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  static void PutString(std::string& out, std::string_view value) {
    Put(out, static_cast<uint64_t>(value.size()));
    out += value;
  }
  void Key(std::string_view key, uint32_t type) {
    ++num_keys_;
    PutString(metadata_, key);
    Put(metadata_, type);
  }

  uint32_t version_ = 3;
  uint64_t num_tensors_ = 0;
  uint64_t num_keys_ = 0;
  uint64_t alignment_ = 32;
  std::string metadata_;
  std::string directory_;
  std::string data_;
};

}  // namespace tandem::gguf
