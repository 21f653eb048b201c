#include "worker/sim/sim_model.h"

#include <algorithm>
#include <memory>
#include <string_view>

#include "common/gguf/gguf_file.h"

namespace tandem::sim {
namespace {

constexpr int64_t kNormalToken = 1;  // of tokenizer.ggml.token_type
constexpr int64_t kMost = 1 << 24;   // of the context: keeps sums in int

// Printable ASCII, after a space (byte-level BPE writes it as U+0120) or not.
bool IsPlainText(std::string_view token) {
  if (token.starts_with("\u0120")) token.remove_prefix(2);
  return !token.empty() &&
         std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c <= '~'; });
}

StatusOr<std::vector<TokenId>> ReplyTokens(const gguf::File& file) {
  TANDEM_ASSIGN_OR_RETURN(const auto tokens, file.GetStrings("tokenizer.ggml.tokens"));
  TANDEM_ASSIGN_OR_RETURN(const auto types, file.GetInts("tokenizer.ggml.token_type"));
  if (types.size() != tokens.size()) {
    return InvalidArgument("{}: {} tokens, but {} token types", file.name(), tokens.size(),
                           types.size());
  }
  std::vector<TokenId> normal, plain;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (types[i] != kNormalToken) continue;
    normal.push_back(static_cast<TokenId>(i));
    if (IsPlainText(tokens[i])) plain.push_back(static_cast<TokenId>(i));
  }
  if (normal.empty()) {
    return InvalidArgument("{}: its vocabulary has control tokens only", file.name());
  }
  return plain.empty() ? normal : plain;
}

}  // namespace

StatusOr<SimModel> LoadSimModel(const std::string& path) {
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<gguf::File> file, gguf::File::Open(path));
  SimModel model;
  TANDEM_ASSIGN_OR_RETURN(model.reply_tokens, ReplyTokens(*file));
  TANDEM_ASSIGN_OR_RETURN(const auto tokens, file->GetStrings("tokenizer.ggml.tokens"));
  model.vocab_size = static_cast<int>(tokens.size());
  TANDEM_ASSIGN_OR_RETURN(const std::string_view architecture,
                          file->GetString("general.architecture"));
  const std::string key = fmt::format("{}.context_length", architecture);
  TANDEM_ASSIGN_OR_RETURN(const int64_t context, file->GetInt(key));
  if (context < 1 || context > kMost) {
    return InvalidArgument("{}: {} is {}, expected 1 to {}", file->name(), key, context, kMost);
  }
  model.max_context = static_cast<int>(context);
  model.fingerprint = file->Fingerprint();
  return model;
}

}  // namespace tandem::sim
