#include "common/huggingface/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <boost/json.hpp>
#include <cstring>
#include <optional>
#include <utility>

#include "common/quoted.h"

namespace tandem::huggingface {
namespace {

namespace json = boost::json;

static_assert(std::endian::native == std::endian::little, "values are copied as they stand");

// Of the header: some hundred bytes a tensor, so enough for 100,000 of them in one file. Bounds
// what a hostile one makes the JSON parser allocate.
constexpr uint64_t kMaxHeaderBytes = 16 << 20;
constexpr size_t kMaxDims = 8;
constexpr int64_t kMost = int64_t{1} << 40;  // of any dimension

struct DTypeInfo {
  std::string_view name;
  int bytes;
  DType dtype;
};
constexpr std::array<DTypeInfo, 16> kDTypes = {{{"F32", 4, DType::kF32},
                                                {"F16", 2, DType::kF16},
                                                {"BF16", 2, DType::kBf16},
                                                {"F64", 8, DType::kOther},
                                                {"I64", 8, DType::kOther},
                                                {"U64", 8, DType::kOther},
                                                {"I32", 4, DType::kOther},
                                                {"U32", 4, DType::kOther},
                                                {"I16", 2, DType::kOther},
                                                {"U16", 2, DType::kOther},
                                                {"I8", 1, DType::kOther},
                                                {"U8", 1, DType::kOther},
                                                {"BOOL", 1, DType::kOther},
                                                {"F8_E4M3", 1, DType::kOther},
                                                {"F8_E5M2", 1, DType::kOther},
                                                {"F8_E8M0", 1, DType::kOther}}};

std::string_view View(const json::string& text) { return {text.data(), text.size()}; }

std::optional<int64_t> AsInt(const json::value& value) {
  if (value.is_int64()) return value.get_int64();
  return std::nullopt;  // above 2^63 as well
}

// Member `key` of a tensor's entry as integers.
StatusOr<std::vector<int64_t>> Integers(const json::object& entry, std::string_view key,
                                        const std::string& what, size_t most) {
  const json::value* value = entry.if_contains(key);
  const json::array* array = value == nullptr ? nullptr : value->if_array();
  if (array == nullptr || array->size() > most) {
    return InvalidArgument("{}: {} is not an array of at most {} integers", what, key, most);
  }
  std::vector<int64_t> out;
  for (const json::value& element : *array) {
    const std::optional<int64_t> integer = AsInt(element);
    if (!integer || *integer < 0) {
      return InvalidArgument("{}: {} has an element that is no integer of 0 or more", what, key);
    }
    out.push_back(*integer);
  }
  return out;
}

struct Extent {
  int64_t begin = 0, end = 0;
};

// What the header says of one tensor, `data` left out.
StatusOr<Extent> ReadEntry(const json::value& value, const std::string& what, Tensor& tensor) {
  const json::object* entry = value.if_object();
  if (entry == nullptr) return InvalidArgument("{} is not an object", what);
  const json::value* dtype = entry->if_contains("dtype");
  if (dtype == nullptr || !dtype->is_string()) {
    return InvalidArgument("{}: dtype is not a string", what);
  }
  const auto info = std::find_if(kDTypes.begin(), kDTypes.end(), [&](const DTypeInfo& i) {
    return i.name == View(dtype->get_string());
  });
  if (info == kDTypes.end()) {
    return Unsupported("{}: dtype {} is not known", what, Quoted(View(dtype->get_string())));
  }
  tensor.dtype = info->dtype;
  tensor.dtype_name = info->name;
  TANDEM_ASSIGN_OR_RETURN(tensor.shape, Integers(*entry, "shape", what, kMaxDims));
  TANDEM_ASSIGN_OR_RETURN(const auto offsets, Integers(*entry, "data_offsets", what, 2));
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    return InvalidArgument("{}: data_offsets are not a begin and an end", what);
  }
  int64_t bytes = info->bytes;
  for (const int64_t size : tensor.shape) {
    if (size < 1 || size > kMost || __builtin_mul_overflow(bytes, size, &bytes)) {
      return InvalidArgument("{} has an impossible shape: a dimension of {}", what, size);
    }
  }
  if (bytes != offsets[1] - offsets[0]) {
    return InvalidArgument("{}: its shape takes {} bytes, its data_offsets give it {}", what, bytes,
                           offsets[1] - offsets[0]);
  }
  return Extent{offsets[0], offsets[1]};
}

StatusOr<json::object> ParseHeader(std::string_view header, const std::string& name) {
  json::error_code error;
  json::value value = json::parse({header.data(), header.size()}, error);
  if (error) return InvalidArgument("{}: the header is not JSON: {}", name, error.message());
  if (!value.is_object()) return InvalidArgument("{}: the header is not a JSON object", name);
  return std::move(value.get_object());
}

StatusOr<std::vector<Tensor>> ReadTensors(const json::object& header,
                                          std::span<const std::byte> data,
                                          const std::string& name) {
  std::vector<std::pair<Extent, Tensor>> found;
  for (const auto& [key, value] : header) {
    if (key == "__metadata__") continue;
    Tensor tensor;
    tensor.name = std::string(key.data(), key.size());
    const std::string what = fmt::format("{}: tensor {}", name, Quoted(tensor.name));
    TANDEM_ASSIGN_OR_RETURN(const Extent extent, ReadEntry(value, what, tensor));
    found.emplace_back(extent, std::move(tensor));
  }
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.first.begin < b.first.begin; });
  // Neither overlaps nor gaps, by the format: nobody hides anything in such a file.
  std::vector<Tensor> tensors;
  int64_t end = 0;
  const auto size = static_cast<int64_t>(data.size());
  for (auto& [extent, tensor] : found) {
    if (extent.begin != end || extent.end > size) {
      return InvalidArgument(
          "{}: tensor {} lies at bytes {} to {} of {}, and the one before ends at {}; the file is "
          "truncated or corrupted",
          name, Quoted(tensor.name), extent.begin, extent.end, size, end);
    }
    tensor.data = data.subspan(static_cast<size_t>(extent.begin),
                               static_cast<size_t>(extent.end - extent.begin));
    end = extent.end;
    tensors.push_back(std::move(tensor));
  }
  if (end != size) {
    return InvalidArgument("{}: {} bytes follow the last tensor", name, size - end);
  }
  return tensors;
}

}  // namespace

int64_t Tensor::rows() const {
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  return rows;
}

StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Open(const std::string& path) {
  TANDEM_ASSIGN_OR_RETURN(MappedFile mapping, MappedFile::Open(path));
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<SafetensorsFile> file, Parse(mapping.bytes(), path));
  file->mapping_ = std::move(mapping);
  return file;
}

StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Parse(std::span<const std::byte> bytes,
                                                                  std::string name) {
  uint64_t length = 0;
  if (bytes.size() < sizeof length) {
    return InvalidArgument("{}: {} bytes are no safetensors file", name, bytes.size());
  }
  std::memcpy(&length, bytes.data(), sizeof length);
  if (length > bytes.size() - sizeof length || length > kMaxHeaderBytes) {
    return InvalidArgument(
        "{}: a header of {} bytes in a file of {} (the most that is read is {}); the file is "
        "truncated or no safetensors file",
        name, length, bytes.size(), kMaxHeaderBytes);
  }
  std::unique_ptr<SafetensorsFile> file(new SafetensorsFile);
  file->header_ = {reinterpret_cast<const char*>(bytes.data()) + sizeof length,
                   static_cast<size_t>(length)};
  file->size_ = bytes.size();
  TANDEM_ASSIGN_OR_RETURN(const json::object header, ParseHeader(file->header_, name));
  TANDEM_ASSIGN_OR_RETURN(file->tensors_,
                          ReadTensors(header, bytes.subspan(sizeof length + length), name));
  file->name_ = std::move(name);
  return file;
}

}  // namespace tandem::huggingface
