// Tokenizers of Hugging Face folders.
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "common/tokenizer/tokenizer.h"
#include "common/tokenizer/tokenizer_json.h"

namespace tandem::text {
namespace {

constexpr uintmax_t kMaxFileSize = 256 << 20;  // several times that of the largest vocabularies

StatusOr<std::string> ReadFile(const std::filesystem::path& path) {
  std::error_code error;
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) return NotFound("{}: {}", path.string(), error.message());
  if (size > kMaxFileSize) {
    return InvalidArgument("{}: {} bytes, more than {}", path.string(), size, kMaxFileSize);
  }
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) return NotFound("{}: {}", path.string(), std::strerror(errno));
  return std::move(text).str();
}

// Empty: there is none.
StatusOr<std::string> ReadOptional(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::string();
  return ReadFile(path);
}

}  // namespace

StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::FromFolder(const std::string& folder) {
  const std::filesystem::path path(folder);
  TokenizerFiles files;
  TANDEM_ASSIGN_OR_RETURN(files.tokenizer, ReadFile(path / "tokenizer.json"));
  TANDEM_ASSIGN_OR_RETURN(files.config, ReadOptional(path / "tokenizer_config.json"));
  TANDEM_ASSIGN_OR_RETURN(files.generation, ReadOptional(path / "generation_config.json"));
  StatusOr<TokenizerSpec> spec = ReadTokenizerJson(files);
  if (!spec.ok()) {
    return MakeStatus(spec.status().code(), fmt::format("{}/{}", folder, Message(spec.status())));
  }
  return FromSpec(*std::move(spec), folder);
}

}  // namespace tandem::text
