#include "common/gguf/gguf_file.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "common/check.h"
#include "common/gguf/cursor.h"
#include "common/gguf/file_parser.h"
#include "common/gguf/value_type.h"
#include "common/hash.h"

namespace tandem::gguf {
namespace {

// For values that Open() has walked over already: they are there.
template <class T>
T Load(std::span<const std::byte> bytes, uint64_t position) {
  T value;
  TANDEM_CHECK(Cursor(bytes, position).Read(value)) << position;
  return value;
}

bool IsInteger(uint32_t type) {
  return type <= static_cast<uint32_t>(ValueType::kInt32) ||
         type == static_cast<uint32_t>(ValueType::kUint64) ||
         type == static_cast<uint32_t>(ValueType::kInt64);
}

bool IsFloat(uint32_t type) {
  return type == static_cast<uint32_t>(ValueType::kFloat32) ||
         type == static_cast<uint32_t>(ValueType::kFloat64);
}

// None: a uint64 that no int64 can hold. REQUIRES: IsInteger(type).
std::optional<int64_t> LoadInt(std::span<const std::byte> bytes, uint32_t type, uint64_t at) {
  switch (static_cast<ValueType>(type)) {
    case ValueType::kUint8:
      return Load<uint8_t>(bytes, at);
    case ValueType::kInt8:
      return Load<int8_t>(bytes, at);
    case ValueType::kUint16:
      return Load<uint16_t>(bytes, at);
    case ValueType::kInt16:
      return Load<int16_t>(bytes, at);
    case ValueType::kUint32:
      return Load<uint32_t>(bytes, at);
    case ValueType::kInt32:
      return Load<int32_t>(bytes, at);
    default:
      break;
  }
  const auto value = Load<uint64_t>(bytes, at);
  if (type == static_cast<uint32_t>(ValueType::kUint64) &&
      value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return std::nullopt;
  }
  return static_cast<int64_t>(value);
}

double LoadFloat(std::span<const std::byte> bytes, uint32_t type, uint64_t at) {
  if (type == static_cast<uint32_t>(ValueType::kFloat32)) return Load<float>(bytes, at);
  return Load<double>(bytes, at);
}

}  // namespace

StatusOr<std::unique_ptr<File>> File::Open(const std::string& path) {
  TANDEM_ASSIGN_OR_RETURN(MappedFile mapping, MappedFile::Open(path));
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<File> file, FileParser(mapping.bytes(), path).Parse());
  file->mapping_ = std::move(mapping);
  return file;
}

StatusOr<std::unique_ptr<File>> File::Parse(std::span<const std::byte> bytes, std::string name) {
  return FileParser(bytes, std::move(name)).Parse();
}

const File::Entry* File::FindEntry(std::string_view key) const {
  const auto it = std::lower_bound(entries_.begin(), entries_.end(), key,
                                   [](const Entry& e, std::string_view k) { return e.key < k; });
  return it != entries_.end() && it->key == key ? &*it : nullptr;
}

StatusOr<const File::Entry*> File::Get(std::string_view key, bool is_array) const {
  const Entry* entry = FindEntry(key);
  if (entry == nullptr) return NotFound("{}: metadata key '{}' is missing", name_, key);
  if (entry->is_array != is_array) {
    return WrongType(*entry, is_array ? "an array" : "a single value");
  }
  return entry;
}

Status File::WrongType(const Entry& entry, const char* wanted) const {
  return InvalidArgument("{}: at byte {}: metadata key '{}' is {}{}, not {}", name_, entry.position,
                         entry.key, entry.is_array ? "an array of " : "of type ",
                         ValueTypeName(entry.type), wanted);
}

StatusOr<int64_t> File::GetInt(std::string_view key) const {
  TANDEM_ASSIGN_OR_RETURN(const Entry* entry, Get(key, false));
  if (!IsInteger(entry->type)) return WrongType(*entry, "an integer");
  const std::optional<int64_t> value = LoadInt(bytes_, entry->type, entry->position);
  if (!value) return WrongType(*entry, "an integer below 2^63");
  return *value;
}

StatusOr<double> File::GetFloat(std::string_view key) const {
  TANDEM_ASSIGN_OR_RETURN(const Entry* entry, Get(key, false));
  if (!IsFloat(entry->type)) return WrongType(*entry, "a floating-point number");
  return LoadFloat(bytes_, entry->type, entry->position);
}

StatusOr<bool> File::GetBool(std::string_view key) const {
  TANDEM_ASSIGN_OR_RETURN(const Entry* entry, Get(key, false));
  if (entry->type != static_cast<uint32_t>(ValueType::kBool)) return WrongType(*entry, "a bool");
  const auto value = Load<uint8_t>(bytes_, entry->position);
  if (value > 1) return WrongType(*entry, "0 or 1");
  return value == 1;
}

StatusOr<std::string_view> File::GetString(std::string_view key) const {
  TANDEM_ASSIGN_OR_RETURN(const Entry* entry, Get(key, false));
  if (entry->type != static_cast<uint32_t>(ValueType::kString))
    return WrongType(*entry, "a string");
  std::string_view value;
  TANDEM_CHECK(Cursor(bytes_, entry->position).ReadString(value)) << entry->position;
  return value;
}

StatusOr<std::vector<std::string_view>> File::GetStrings(std::string_view key) const {
  TANDEM_ASSIGN_OR_RETURN(const Entry* entry, Get(key, true));
  if (entry->type != static_cast<uint32_t>(ValueType::kString)) {
    return WrongType(*entry, "an array of strings");
  }
  std::vector<std::string_view> values(entry->count);
  Cursor cursor(bytes_, entry->position);
  for (std::string_view& value : values) {
    TANDEM_CHECK(cursor.ReadString(value)) << cursor.position();
  }
  return values;
}

StatusOr<std::vector<int64_t>> File::GetInts(std::string_view key) const {
  TANDEM_ASSIGN_OR_RETURN(const Entry* entry, Get(key, true));
  if (!IsInteger(entry->type)) return WrongType(*entry, "an array of integers");
  std::vector<int64_t> values;
  values.reserve(entry->count);
  for (uint64_t i = 0; i < entry->count; ++i) {
    const uint64_t at = entry->position + i * ValueBytes(entry->type);
    const std::optional<int64_t> value = LoadInt(bytes_, entry->type, at);
    if (!value) return WrongType(*entry, "an array of integers below 2^63");
    values.push_back(*value);
  }
  return values;
}

StatusOr<std::vector<double>> File::GetFloats(std::string_view key) const {
  TANDEM_ASSIGN_OR_RETURN(const Entry* entry, Get(key, true));
  if (!IsFloat(entry->type)) return WrongType(*entry, "an array of floating-point numbers");
  std::vector<double> values;
  values.reserve(entry->count);
  for (uint64_t i = 0; i < entry->count; ++i) {
    values.push_back(LoadFloat(bytes_, entry->type, entry->position + i * ValueBytes(entry->type)));
  }
  return values;
}

const Tensor* File::Find(std::string_view name) const {
  const auto it =
      std::lower_bound(tensors_by_name_.begin(), tensors_by_name_.end(), name,
                       [&](uint32_t i, std::string_view n) { return tensors_[i].name < n; });
  if (it == tensors_by_name_.end() || tensors_[*it].name != name) return nullptr;
  return &tensors_[*it];
}

std::string File::Fingerprint() const {
  const BlockHash header = HashBytes(
      {reinterpret_cast<const char*>(bytes_.data()), static_cast<size_t>(directory_end_)});
  const BlockHash all =
      HashBytes(fmt::format("{:016x}{:016x} in {} bytes", header.high, header.low, bytes_.size()));
  return fmt::format("{:016x}{:016x}", all.high, all.low);
}

}  // namespace tandem::gguf
