// Tokenizers of GGUF files.
#include <algorithm>
#include <numeric>
#include <utility>

#include "common/tokenizer/tokenizer.h"
#include "common/tokenizer/utf8.h"

namespace tandem::text {
namespace {

using Kind = TokenizerSpec::Kind;

// tokenizer.ggml.token_type
constexpr int64_t kUnknownType = 2;
constexpr int64_t kControlType = 3;
constexpr int64_t kUserDefinedType = 4;
constexpr int64_t kUnusedType = 5;
constexpr int64_t kByteType = 6;

class Reader {
 public:
  explicit Reader(const gguf::File& file) : file_(file) {}

  StatusOr<TokenizerSpec> Read() {
    TANDEM_ASSIGN_OR_RETURN(const std::string_view model, file_.GetString("tokenizer.ggml.model"));
    if (model != "gpt2" && model != "llama") {
      return Unsupported(
          "{}: tokenizer.ggml.model '{}' is not supported, only 'gpt2' (byte-level BPE) and "
          "'llama' "
          "(SentencePiece's BPE)",
          file_.name(), model);
    }
    spec_.byte_level = model == "gpt2";
    TANDEM_RETURN_IF_ERROR(ReadTokens());
    TANDEM_RETURN_IF_ERROR(spec_.byte_level ? ReadBytePairs() : ReadSentencePiece());
    TANDEM_RETURN_IF_ERROR(ReadIds());
    return std::move(spec_);
  }

 private:
  Status ReadTokens() {
    TANDEM_ASSIGN_OR_RETURN(const auto texts, file_.GetStrings("tokenizer.ggml.tokens"));
    TANDEM_ASSIGN_OR_RETURN(const auto types, file_.GetInts("tokenizer.ggml.token_type"));
    if (texts.size() > kMaxVocabSize) {
      return InvalidArgument("{}: tokenizer.ggml.tokens has {} tokens (up to {} are supported)",
                             file_.name(), texts.size(), kMaxVocabSize);
    }
    if (types.size() != texts.size()) {
      return InvalidArgument("{}: tokenizer.ggml.token_type has {} entries for {} tokens",
                             file_.name(), types.size(), texts.size());
    }
    spec_.tokens.reserve(texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      const auto id = static_cast<TokenId>(i);
      const auto [it, is_new] =
          ids_.emplace(absl::string_view(texts[i].data(), texts[i].size()), id);
      if (!is_new) {
        return InvalidArgument("{}: tokenizer.ggml.tokens: tokens {} and {} are the same",
                               file_.name(), it->second, i);
      }
      TANDEM_RETURN_IF_ERROR(AddToken(id, texts[i], types[i]));
    }
    return OkStatus();
  }

  Status AddToken(TokenId id, std::string_view text, int64_t type) {
    TokenizerSpec::Token token = {std::string(text), Kind::kText, type == kControlType};
    if (type == kControlType || type == kUserDefinedType) {
      if (text.empty()) {
        return InvalidArgument("{}: tokenizer.ggml.tokens: special token {} is empty", file_.name(),
                               id);
      }
      token.kind = Kind::kAdded;
      spec_.added.push_back({.text = token.text, .id = id, .special = token.control});
    } else if (!spec_.byte_level && type == kByteType) {
      if (ByteOfToken(text) < 0) {
        return InvalidArgument("{}: tokenizer.ggml.tokens: byte token {} is '{}', not <0xHH>",
                               file_.name(), id, text);
      }
      token.kind = Kind::kByte;
    } else if (!spec_.byte_level && (type == kUnknownType || type == kUnusedType)) {
      token.kind = Kind::kAdded;  // and found nowhere
      if (type == kUnknownType) spec_.unknown = id;
    }
    spec_.tokens.push_back(std::move(token));
    return OkStatus();
  }

  Status ReadBytePairs() {
    TANDEM_ASSIGN_OR_RETURN(const std::string_view name, file_.GetString("tokenizer.ggml.pre"));
    StatusOr<PreTokenizer> pre_tokenizer = PreTokenizer::FromGgufName(name);
    if (!pre_tokenizer.ok()) {
      return Unsupported("{}: tokenizer.ggml.pre {}", file_.name(),
                         Message(pre_tokenizer.status()));
    }
    spec_.pre_tokenizer = *std::move(pre_tokenizer);
    // Qwen's normalizer goes without saying in GGUF, and llama.cpp goes without it.
    if (name.starts_with("qwen") || name == "deepseek-r1-qwen") {
      spec_.normalizer.AddForm(Normalizer::Form::kNfc);
    }
    // llama.cpp's rule: what these tokenizers' files say in Hugging Face's form, GGUF does not.
    const bool is_llama3 = name == "llama-bpe" || name == "llama3" || name == "llama-v3";
    spec_.ignore_merges = is_llama3 || name == "tekken";
    adds_bos_ = is_llama3 || name == "tekken";
    TANDEM_ASSIGN_OR_RETURN(const auto lines, file_.GetStrings("tokenizer.ggml.merges"));
    spec_.merges.reserve(lines.size());
    for (size_t i = 0; i < lines.size(); ++i) {
      const StatusOr<Bpe::Merge> merge = ParseMerge(ids_, lines[i]);
      if (!merge.ok()) {
        return InvalidArgument("{}: tokenizer.ggml.merges: merge {}: {}", file_.name(), i,
                               Message(merge.status()));
      }
      spec_.merges.push_back(*merge);
    }
    return OkStatus();
  }

  Status ReadSentencePiece() {
    TANDEM_ASSIGN_OR_RETURN(const auto scores, file_.GetFloats("tokenizer.ggml.scores"));
    if (scores.size() != spec_.tokens.size()) {
      return InvalidArgument("{}: tokenizer.ggml.scores has {} entries for {} tokens", file_.name(),
                             scores.size(), spec_.tokens.size());
    }
    MakeMerges(scores);
    bool add_space = true;
    if (file_.Has("tokenizer.ggml.add_space_prefix")) {
      TANDEM_ASSIGN_OR_RETURN(add_space, file_.GetBool("tokenizer.ggml.add_space_prefix"));
    }
    if (add_space) spec_.normalizer.AddPrepend(" ");
    spec_.normalizer.AddReplace(" ", std::string(kSpaceMarker));
    spec_.decode_replace = {{std::string(kSpaceMarker), " "}};
    spec_.decode_bytes = true;
    spec_.decode_strip = add_space ? 1 : 0;
    adds_bos_ = true;
    return OkStatus();
  }

  // SentencePiece joins any two neighbours that make a token, the best score first: for each token
  // a merge of every two tokens that it can be cut into. Control, byte and unused tokens are never
  // made so (llama.cpp makes them if their scores and parts allow it; SentencePiece does not).
  void MakeMerges(std::span<const double> scores) {
    std::vector<TokenId> order(scores.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](TokenId a, TokenId b) { return scores[a] > scores[b]; });
    const double* last = nullptr;  // the score of the merge before
    for (const TokenId id : order) {
      const std::string_view text = spec_.tokens[id].text;
      if (spec_.tokens[id].kind != Kind::kText || text.empty()) continue;
      for (size_t cut = ReadCodePoint(text, 0).size; cut < text.size();
           cut += ReadCodePoint(text, cut).size) {
        const TokenId left = FindText(text.substr(0, cut));
        const TokenId right = FindText(text.substr(cut));
        if (left < 0 || right < 0) continue;
        spec_.merges.push_back({left, right, id, last != nullptr && *last == scores[id]});
        last = &scores[id];
      }
    }
  }

  TokenId FindText(std::string_view text) const {
    const TokenId id = FindId(ids_, text);
    return id >= 0 && spec_.tokens[id].kind == Kind::kText ? id : kNoToken;
  }

  // kNoToken: the file has no such key.
  StatusOr<TokenId> ReadId(std::string_view key) const {
    if (!file_.Has(key)) return kNoToken;
    TANDEM_ASSIGN_OR_RETURN(const int64_t id, file_.GetInt(key));
    if (id < 0 || id >= static_cast<int64_t>(spec_.tokens.size())) {
      return InvalidArgument("{}: {} is {}, but the vocabulary has {} tokens", file_.name(), key,
                             id, spec_.tokens.size());
    }
    return static_cast<TokenId>(id);
  }

  // Whether `id` goes beside a prompt: what `key` says, or else `otherwise` where there is an id.
  StatusOr<bool> ReadAdds(std::string_view key, std::string_view id_key, TokenId id,
                          bool otherwise) const {
    if (!file_.Has(key)) return otherwise && id != kNoToken;
    TANDEM_ASSIGN_OR_RETURN(const bool adds, file_.GetBool(key));
    if (adds && id == kNoToken) {
      return InvalidArgument("{}: {} without {}", file_.name(), key, id_key);
    }
    return adds;
  }

  Status ReadIds() {
    constexpr std::string_view kBos = "tokenizer.ggml.bos_token_id";
    constexpr std::string_view kEos = "tokenizer.ggml.eos_token_id";
    TANDEM_ASSIGN_OR_RETURN(spec_.bos, ReadId(kBos));
    TANDEM_ASSIGN_OR_RETURN(spec_.eos, ReadId(kEos));
    TANDEM_ASSIGN_OR_RETURN(const bool adds_bos,
                            ReadAdds("tokenizer.ggml.add_bos_token", kBos, spec_.bos, adds_bos_));
    TANDEM_ASSIGN_OR_RETURN(const bool adds_eos,
                            ReadAdds("tokenizer.ggml.add_eos_token", kEos, spec_.eos, false));
    if (adds_bos) spec_.prefix = {spec_.bos};
    if (adds_eos) spec_.suffix = {spec_.eos};
    for (const std::string_view key :
         {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
      TANDEM_ASSIGN_OR_RETURN(const TokenId id, ReadId(key));
      if (id != kNoToken) spec_.end_ids.push_back(id);
    }
    if (!spec_.byte_level) {
      TANDEM_ASSIGN_OR_RETURN(const TokenId unknown, ReadId("tokenizer.ggml.unknown_token_id"));
      if (unknown != kNoToken) spec_.unknown = unknown;
    }
    return OkStatus();
  }

  const gguf::File& file_;
  TokenizerSpec spec_;
  IdOfToken ids_;          // borrows from the file
  bool adds_bos_ = false;  // unless the file says
};

}  // namespace

StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::FromGguf(const gguf::File& file) {
  TANDEM_ASSIGN_OR_RETURN(TokenizerSpec spec, Reader(file).Read());
  return FromSpec(std::move(spec), file.name());
}

}  // namespace tandem::text
