#include "common/huggingface/generation_config.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <system_error>

#include "common/huggingface/json_config.h"
#include "common/mapped_file.h"

namespace tandem::huggingface {
namespace {

constexpr size_t kMaxBytes = 4 << 20;

Status Take(const JsonConfig& config, const char* key, double low, double high,
            std::optional<float>& to) {
  if (!config.Has(key)) return OkStatus();
  TANDEM_ASSIGN_OR_RETURN(const double value, config.GetFloat(key));
  if (!(value >= low && value <= high)) {
    return InvalidArgument("{}: {} is {}, not {} to {}", config.name(), key, value, low, high);
  }
  to = static_cast<float>(value);
  return OkStatus();
}

Status Take(const JsonConfig& config, const char* key, int64_t low, std::optional<int32_t>& to) {
  if (!config.Has(key)) return OkStatus();
  TANDEM_ASSIGN_OR_RETURN(const int64_t value, config.GetInt(key));
  if (value < low || value > std::numeric_limits<int32_t>::max()) {
    return InvalidArgument("{}: {} is {}, not {} or more", config.name(), key, value, low);
  }
  to = static_cast<int32_t>(value);
  return OkStatus();
}

}  // namespace

StatusOr<GenerationConfig> ReadGenerationConfig(const std::string& folder) {
  GenerationConfig to;
  const std::string path = (std::filesystem::path(folder) / "generation_config.json").string();
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return to;
  TANDEM_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  if (file.bytes().size() > kMaxBytes) {
    return InvalidArgument("{}: {} bytes; the most that is read is {}", path, file.bytes().size(),
                           kMaxBytes);
  }
  TANDEM_ASSIGN_OR_RETURN(const JsonConfig config, JsonConfig::Parse(file.text(), path));
  constexpr double kAboveZero = 1e-6, kBelowOne = 0.999999;
  TANDEM_RETURN_IF_ERROR(Take(config, "temperature", 0, 2, to.temperature));
  TANDEM_RETURN_IF_ERROR(Take(config, "top_p", kAboveZero, 1, to.top_p));
  TANDEM_RETURN_IF_ERROR(Take(config, "min_p", 0, kBelowOne, to.min_p));
  TANDEM_RETURN_IF_ERROR(Take(config, "repetition_penalty", 0.01, 100, to.repetition_penalty));
  TANDEM_RETURN_IF_ERROR(Take(config, "top_k", -1, to.top_k));
  if (to.top_k) to.top_k = std::max(0, *to.top_k);  // -1 is off too
  TANDEM_RETURN_IF_ERROR(Take(config, "max_new_tokens", 1, to.max_new_tokens));
  return to;
}

}  // namespace tandem::huggingface
