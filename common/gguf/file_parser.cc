#include "common/gguf/file_parser.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>
#include <utility>

#include "common/gguf/value_type.h"
#include "common/quoted.h"

namespace tandem::gguf {
namespace {

static_assert(std::endian::native == std::endian::little, "values are copied as they stand");

constexpr uint32_t kVersion = 3;
constexpr uint64_t kMaxNameBytes = 65535;  // of keys, by the specification; of tensors likewise
constexpr uint64_t kMaxAlignment = 1 << 20;
constexpr int kMaxArrayDepth = 4;  // nested arrays are legal; nothing we read uses them
// The smallest key-value pair (length, one byte of key, type, one byte of value) and tensor entry
// (length, one byte of name, number of dimensions, one dimension, type, offset).
constexpr uint64_t kMinEntryBytes = 8 + 1 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

}  // namespace

FileParser::FileParser(std::span<const std::byte> bytes, std::string name)
    : file_(new File), cursor_(bytes) {
  file_->name_ = std::move(name);
  file_->bytes_ = bytes;
}

template <class... Args>
Status FileParser::Error(fmt::format_string<Args...> format, Args&&... args) const {
  return InvalidArgument("{}: at byte {}: {}", file_->name_, cursor_.position(),
                         fmt::format(format, std::forward<Args>(args)...));
}

Status FileParser::Truncated(std::string_view what) const {
  return Error("the file ends inside {} ({} bytes left); it is truncated or corrupted", what,
               cursor_.remaining());
}

StatusOr<std::unique_ptr<File>> FileParser::Parse() {
  TANDEM_RETURN_IF_ERROR(ParseHeader());
  TANDEM_RETURN_IF_ERROR(ParseMetadata());
  TANDEM_RETURN_IF_ERROR(CheckDuplicateKeys());
  TANDEM_RETURN_IF_ERROR(ReadAlignment());
  TANDEM_RETURN_IF_ERROR(ParseDirectory());
  TANDEM_RETURN_IF_ERROR(CheckDuplicateTensors());
  TANDEM_RETURN_IF_ERROR(PlaceTensors());
  return std::move(file_);
}

Status FileParser::ParseHeader() {
  std::array<char, 4> magic;
  if (!cursor_.Read(magic)) return Truncated("the header");
  if (std::string_view(magic.data(), 4) != "GGUF") {
    return Error("not a GGUF file (it does not begin with 'GGUF')");
  }
  uint32_t version = 0;
  if (!cursor_.Read(version)) return Truncated("the header");
  if (version != 0 && (version & 0xffff) == 0) {
    return Error("big-endian GGUF is not supported; convert the file to little-endian GGUF v3");
  }
  if (version != kVersion) {
    return Error("GGUF version {} is not supported; convert the file to version {}", version,
                 kVersion);
  }
  if (!cursor_.Read(num_tensors_) || !cursor_.Read(num_entries_)) return Truncated("the header");
  if (num_entries_ > cursor_.remaining() / kMinEntryBytes) {
    return Error("{} metadata keys do not fit into the file", num_entries_);
  }
  if (num_tensors_ > cursor_.remaining() / kMinTensorBytes) {
    return Error("{} tensors do not fit into the file", num_tensors_);
  }
  return OkStatus();
}

Status FileParser::ParseMetadata() {
  for (uint64_t i = 0; i < num_entries_; ++i) TANDEM_RETURN_IF_ERROR(ParseEntry());
  return OkStatus();
}

Status FileParser::ParseEntry() {
  File::Entry entry;
  if (!cursor_.ReadString(entry.key)) return Truncated("a metadata key");
  if (entry.key.empty() || entry.key.size() > kMaxNameBytes) {
    return Error("a metadata key of {} bytes (1 to {} are legal)", entry.key.size(), kMaxNameBytes);
  }
  key_ = entry.key;
  if (!cursor_.Read(entry.type)) return Truncated(fmt::format("key {}", Quoted(key_)));
  if (entry.type == static_cast<uint32_t>(ValueType::kArray)) {
    entry.is_array = true;
    if (!cursor_.Read(entry.type) || !cursor_.Read(entry.count)) {
      return Truncated(fmt::format("key {}", Quoted(key_)));
    }
    entry.position = cursor_.position();
    TANDEM_RETURN_IF_ERROR(SkipArray(entry.type, entry.count, 1));
  } else {
    entry.position = cursor_.position();
    TANDEM_RETURN_IF_ERROR(SkipValue(entry.type, 0));
  }
  file_->entries_.push_back(entry);
  return OkStatus();
}

Status FileParser::CheckValueType(uint32_t type) const {
  if (type < kNumValueTypes) return OkStatus();
  return Error("key {} has value type {}, which GGUF does not define", Quoted(key_), type);
}

Status FileParser::SkipValue(uint32_t type, int depth) {
  TANDEM_RETURN_IF_ERROR(CheckValueType(type));
  if (type == static_cast<uint32_t>(ValueType::kString)) {
    std::string_view ignored;
    if (!cursor_.ReadString(ignored)) return Truncated(fmt::format("key {}", Quoted(key_)));
    return OkStatus();
  }
  if (type == static_cast<uint32_t>(ValueType::kArray)) {
    uint32_t element = 0;
    uint64_t count = 0;
    if (!cursor_.Read(element) || !cursor_.Read(count)) {
      return Truncated(fmt::format("key {}", Quoted(key_)));
    }
    return SkipArray(element, count, depth + 1);
  }
  if (!cursor_.Skip(1, ValueBytes(type))) return Truncated(fmt::format("key {}", Quoted(key_)));
  return OkStatus();
}

Status FileParser::SkipArray(uint32_t element, uint64_t count, int depth) {
  TANDEM_RETURN_IF_ERROR(CheckValueType(element));
  if (depth > kMaxArrayDepth) {
    return Error("key {} nests arrays deeper than {}", Quoted(key_), kMaxArrayDepth);
  }
  if (const uint64_t bytes = ValueBytes(element); bytes > 0) {
    if (!cursor_.Skip(count, bytes)) return Truncated(fmt::format("key {}", Quoted(key_)));
    return OkStatus();
  }
  // Every string or array takes bytes of the file, so the loop ends with the file at the latest.
  for (uint64_t i = 0; i < count; ++i) TANDEM_RETURN_IF_ERROR(SkipValue(element, depth));
  return OkStatus();
}

Status FileParser::CheckDuplicateKeys() {
  auto& entries = file_->entries_;
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.key < b.key; });
  const auto twin = std::adjacent_find(entries.begin(), entries.end(),
                                       [](auto& a, auto& b) { return a.key == b.key; });
  if (twin != entries.end()) return Error("metadata key {} appears twice", Quoted(twin->key));
  return OkStatus();
}

Status FileParser::ReadAlignment() {
  if (!file_->Has("general.alignment")) return OkStatus();
  TANDEM_ASSIGN_OR_RETURN(const int64_t alignment, file_->GetInt("general.alignment"));
  if (alignment < 8 || alignment > static_cast<int64_t>(kMaxAlignment) ||
      !std::has_single_bit(static_cast<uint64_t>(alignment))) {
    return Error("general.alignment is {}; a power of two from 8 to {} is supported", alignment,
                 kMaxAlignment);
  }
  alignment_ = static_cast<uint64_t>(alignment);
  return OkStatus();
}

Status FileParser::ParseDirectory() {
  if (num_tensors_ > cursor_.remaining() / kMinTensorBytes) {
    return Error("{} tensors do not fit into the file", num_tensors_);
  }
  for (uint64_t i = 0; i < num_tensors_; ++i) {
    TANDEM_RETURN_IF_ERROR(ParseTensor(file_->tensors_.emplace_back(), offsets_.emplace_back()));
  }
  file_->directory_end_ = cursor_.position();
  return OkStatus();
}

Status FileParser::ParseTensor(Tensor& tensor, uint64_t& offset) {
  if (!cursor_.ReadString(tensor.name)) return Truncated("a tensor's name");
  if (tensor.name.empty() || tensor.name.size() > kMaxNameBytes) {
    return Error("a tensor name of {} bytes (1 to {} are legal)", tensor.name.size(),
                 kMaxNameBytes);
  }
  const std::string what = "tensor " + Quoted(tensor.name);
  uint32_t num_dims = 0;
  if (!cursor_.Read(num_dims)) return Truncated(what);
  if (num_dims < 1 || num_dims > tensor.dims.size()) {
    return Error("{} has {} dimensions (1 to {} are legal)", what, num_dims, tensor.dims.size());
  }
  tensor.num_dims = static_cast<int>(num_dims);
  int64_t elements = 1;
  for (uint32_t d = 0; d < num_dims; ++d) {
    if (!cursor_.Read(tensor.dims[d])) return Truncated(what);
    if (tensor.dims[d] < 1 || __builtin_mul_overflow(elements, tensor.dims[d], &elements)) {
      return Error("{} has an impossible shape: dimension {} is {}", what, d,
                   static_cast<uint64_t>(tensor.dims[d]));
    }
  }
  uint32_t type = 0;
  if (!cursor_.Read(type) || !cursor_.Read(offset)) return Truncated(what);
  tensor.type = static_cast<TensorType>(type);
  return OkStatus();
}

Status FileParser::CheckDuplicateTensors() {
  const auto& tensors = file_->tensors_;
  auto& order = file_->tensors_by_name_;
  order.resize(tensors.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(),
            [&](uint32_t a, uint32_t b) { return tensors[a].name < tensors[b].name; });
  const auto twin = std::adjacent_find(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return tensors[a].name == tensors[b].name;
  });
  if (twin != order.end()) return Error("tensor {} appears twice", Quoted(tensors[*twin].name));
  return OkStatus();
}

Status FileParser::PlaceTensors() {
  // The directory lies inside the file and the alignment is small: no overflow.
  data_start_ = (file_->directory_end_ + alignment_ - 1) / alignment_ * alignment_;
  for (size_t i = 0; i < offsets_.size(); ++i) {
    TANDEM_RETURN_IF_ERROR(PlaceTensor(file_->tensors_[i], offsets_[i]));
  }
  return OkStatus();
}

Status FileParser::PlaceTensor(Tensor& tensor, uint64_t offset) const {
  const uint64_t size = file_->bytes_.size();
  const uint64_t available = size > data_start_ ? size - data_start_ : 0;
  if (offset % alignment_ != 0) {
    return Error("tensor {} begins at offset {}, which is not a multiple of the alignment {}",
                 Quoted(tensor.name), offset, alignment_);
  }
  if (offset > available) {
    return Error(
        "tensor {} begins at offset {}, past the {} bytes of tensor data; the file is "
        "truncated or corrupted",
        Quoted(tensor.name), offset, available);
  }
  if (!IsSupported(tensor.type)) return OkStatus();
  const int64_t block = BlockElements(tensor.type);
  if (tensor.cols() % block != 0) {
    return Error("tensor {} of type {} has rows of {} elements, not a multiple of {}",
                 Quoted(tensor.name), TypeName(tensor.type), tensor.cols(), block);
  }
  const auto num_blocks = static_cast<uint64_t>(tensor.cols() / block * tensor.rows());
  const auto block_bytes = static_cast<uint64_t>(BlockBytes(tensor.type));
  if (num_blocks > (available - offset) / block_bytes) {
    return Error(
        "tensor {} of type {} needs {} blocks of {} bytes, but the file has only {} bytes "
        "from its offset on; the file is truncated or corrupted",
        Quoted(tensor.name), TypeName(tensor.type), num_blocks, block_bytes, available - offset);
  }
  tensor.data = file_->bytes_.subspan(data_start_ + offset, num_blocks * block_bytes);
  return OkStatus();
}

}  // namespace tandem::gguf
