#include "common/tokenizer/tokenizer_json.h"

#include <algorithm>
#include <utility>

#include "common/tokenizer/json_reader.h"
#include "common/tokenizer/json_steps.h"

namespace tandem::text {
namespace {

using Kind = TokenizerSpec::Kind;

// Ids beyond the number of tokens: gaps that a vocabulary may have. What an id costs is bounded so.
constexpr size_t kMaxGaps = 100'000;

StatusOr<TokenId> IdAt(const JsonPlace& place) {
  TANDEM_ASSIGN_OR_RETURN(const int64_t id, place.Int());
  if (id < 0 || id >= static_cast<int64_t>(kMaxVocabSize)) {
    return InvalidArgument("{} is {}, which is no token's id", place.place(), id);
  }
  return static_cast<TokenId>(id);
}

class Reader {
 public:
  StatusOr<TokenizerSpec> Read(const TokenizerFiles& files) {
    TANDEM_ASSIGN_OR_RETURN(const json::value root, ParseJson(files.tokenizer, "tokenizer.json"));
    const JsonPlace top(root, "tokenizer.json: ");
    TANDEM_RETURN_IF_ERROR(ReadModel(top));
    TANDEM_RETURN_IF_ERROR(ReadAddedTokens(top));
    if (const auto normalizer = top.Find("normalizer")) {
      TANDEM_RETURN_IF_ERROR(AddNormalizer(*normalizer, spec_.normalizer));
    }
    PreTokenizerReader steps(spec_.pre_tokenizer);
    if (const auto pre_tokenizer = top.Find("pre_tokenizer")) {
      TANDEM_RETURN_IF_ERROR(steps.Add(*pre_tokenizer));
    }
    spec_.byte_level = steps.byte_level();
    TANDEM_RETURN_IF_ERROR(CheckBytes(top));
    TANDEM_ASSIGN_OR_RETURN(const JsonPlace decoder, top.Get("decoder"));
    TANDEM_RETURN_IF_ERROR(ReadDecoder(decoder, spec_));
    if (const auto post_processor = top.Find("post_processor")) {
      TANDEM_RETURN_IF_ERROR(ReadPostProcessor(*post_processor));
    }
    TANDEM_RETURN_IF_ERROR(ReadConfig(files.config));
    TANDEM_RETURN_IF_ERROR(ReadGeneration(files.generation));
    return std::move(spec_);
  }

 private:
  Status ReadModel(const JsonPlace& top) {
    TANDEM_ASSIGN_OR_RETURN(const JsonPlace model, top.Get("model"));
    TANDEM_ASSIGN_OR_RETURN(const std::string_view type, model.StringAt("type"));
    if (type != "BPE") {
      return Unsupported("{}.type '{}' is not supported, only 'BPE'", model.place(), type);
    }
    for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const auto affix = model.Find(key);
      if (!affix) continue;
      TANDEM_ASSIGN_OR_RETURN(const std::string_view text, affix->String());
      if (!text.empty()) return Unsupported("{} is not supported", affix->place());
    }
    if (const auto dropout = model.Find("dropout")) {
      return Unsupported("{} is not supported", dropout->place());
    }
    TANDEM_ASSIGN_OR_RETURN(byte_fallback_, model.BoolAt("byte_fallback", false));
    TANDEM_ASSIGN_OR_RETURN(spec_.fuse_unknown, model.BoolAt("fuse_unk", false));
    TANDEM_ASSIGN_OR_RETURN(spec_.ignore_merges, model.BoolAt("ignore_merges", false));
    TANDEM_RETURN_IF_ERROR(ReadVocabulary(model));
    if (const auto unknown = model.Find("unk_token")) {
      TANDEM_ASSIGN_OR_RETURN(const std::string_view text, unknown->String());
      spec_.unknown = FindId(ids_, text);
      if (spec_.unknown == kNoToken) {
        return InvalidArgument("{} '{}' is not in the vocabulary", unknown->place(), text);
      }
    }
    return ReadMerges(model);
  }

  Status ReadVocabulary(const JsonPlace& model) {
    TANDEM_ASSIGN_OR_RETURN(const JsonPlace place, model.Get("vocab"));
    TANDEM_ASSIGN_OR_RETURN(const json::object* const vocab, place.Object());
    ids_.reserve(vocab->size());
    max_id_ = static_cast<int64_t>(std::min(vocab->size() + kMaxGaps, kMaxVocabSize));
    for (const auto& [key, value] : *vocab) {
      const std::string_view text(key.data(), key.size());
      const int64_t* number = value.if_int64();
      if (number == nullptr || *number < 0 || *number > max_id_) {
        return InvalidArgument("{}: '{}' has no id", place.place(), text);
      }
      const auto id = static_cast<TokenId>(*number);
      TokenizerSpec::Token& token = At(id);
      if (token.kind != Kind::kNone) {
        return InvalidArgument("{}: '{}' and '{}' have the id {}", place.place(), token.text, text,
                               id);
      }
      token.text = text;
      token.kind = byte_fallback_ && ByteOfToken(text) >= 0 ? Kind::kByte : Kind::kText;
      ids_.emplace(absl::string_view(text.data(), text.size()), id);
    }
    return OkStatus();
  }

  TokenizerSpec::Token& At(TokenId id) {
    if (static_cast<size_t>(id) >= spec_.tokens.size()) spec_.tokens.resize(id + 1);
    return spec_.tokens[id];
  }

  Status ReadMerges(const JsonPlace& model) {
    TANDEM_ASSIGN_OR_RETURN(const JsonPlace place, model.Get("merges"));
    TANDEM_ASSIGN_OR_RETURN(const json::array* const merges, place.Array());
    spec_.merges.reserve(merges->size());
    for (size_t i = 0; i < merges->size(); ++i) {
      const StatusOr<Bpe::Merge> merge = ReadMerge((*merges)[i]);
      if (!merge.ok()) {
        return InvalidArgument("{}[{}]: {}", place.place(), i, Message(merge.status()));
      }
      spec_.merges.push_back(*merge);
    }
    return OkStatus();
  }

  // "left right" or ["left", "right"].
  StatusOr<Bpe::Merge> ReadMerge(const json::value& value) const {
    if (const json::string* line = value.if_string()) {
      return ParseMerge(ids_, {line->data(), line->size()});
    }
    const json::array* pair = value.if_array();
    if (pair == nullptr || pair->size() != 2 || !(*pair)[0].is_string() ||
        !(*pair)[1].is_string()) {
      return InvalidArgument("not two tokens");
    }
    const json::string& left = (*pair)[0].get_string();
    const json::string& right = (*pair)[1].get_string();
    return MakeMerge(ids_, {left.data(), left.size()}, {right.data(), right.size()});
  }

  Status ReadAddedTokens(const JsonPlace& top) {
    const auto place = top.Find("added_tokens");
    if (!place) return OkStatus();
    TANDEM_ASSIGN_OR_RETURN(const json::array* const tokens, place->Array());
    for (size_t i = 0; i < tokens->size(); ++i) {
      TANDEM_RETURN_IF_ERROR(ReadAddedToken(place->At(i)));
    }
    return OkStatus();
  }

  Status ReadAddedToken(const JsonPlace& place) {
    AddedToken added;
    TANDEM_ASSIGN_OR_RETURN(added.text, place.StringAt("content"));
    TANDEM_ASSIGN_OR_RETURN(const JsonPlace id, place.Get("id"));
    TANDEM_ASSIGN_OR_RETURN(added.id, IdAt(id));
    TANDEM_ASSIGN_OR_RETURN(added.special, place.BoolAt("special", false));
    TANDEM_ASSIGN_OR_RETURN(added.lstrip, place.BoolAt("lstrip", false));
    TANDEM_ASSIGN_OR_RETURN(added.rstrip, place.BoolAt("rstrip", false));
    TANDEM_ASSIGN_OR_RETURN(added.single_word, place.BoolAt("single_word", false));
    TANDEM_ASSIGN_OR_RETURN(added.normalized, place.BoolAt("normalized", !added.special));
    if (added.id > max_id_) {
      return InvalidArgument("{} is {}, far beyond the vocabulary", id.place(), added.id);
    }
    if (added.text.empty()) return InvalidArgument("{}.content is empty", place.place());
    TokenizerSpec::Token& token = At(added.id);
    if (token.kind == Kind::kNone) {
      token = {added.text, Kind::kAdded, added.special};
    } else if (token.text != added.text) {
      return InvalidArgument("{}: the id {} is that of '{}'", place.place(), added.id, token.text);
    }
    token.control = added.special;
    spec_.added.push_back(std::move(added));
    return OkStatus();
  }

  // Symbols are bytes or characters throughout, or pieces and tokens would not fit.
  Status CheckBytes(const JsonPlace& top) const {
    if (!spec_.byte_level || !byte_fallback_) return OkStatus();
    return Unsupported("{}model.byte_fallback with a ByteLevel pre-tokenizer is not supported",
                       top.place());
  }

  Status ReadPostProcessor(const JsonPlace& place) {
    TANDEM_ASSIGN_OR_RETURN(const std::string_view type, place.StringAt("type"));
    if (type == "ByteLevel") return OkStatus();  // it moves offsets, which we do not have
    if (type == "TemplateProcessing") return ReadTemplate(place);
    if (type == "RobertaProcessing" || type == "BertProcessing") {
      TANDEM_RETURN_IF_ERROR(AddPair(place, "cls", spec_.prefix));
      return AddPair(place, "sep", spec_.suffix);
    }
    if (type != "Sequence") {
      return Unsupported("{}.type '{}' is not supported", place.place(), type);
    }
    TANDEM_ASSIGN_OR_RETURN(const JsonPlace inner, place.Get("processors"));
    TANDEM_ASSIGN_OR_RETURN(const json::array* const list, inner.Array());
    for (size_t i = 0; i < list->size(); ++i) {
      TANDEM_RETURN_IF_ERROR(ReadPostProcessor(inner.At(i)));
    }
    return OkStatus();
  }

  // ["text", id]
  Status AddPair(const JsonPlace& place, std::string_view key, std::vector<TokenId>& ids) {
    TANDEM_ASSIGN_OR_RETURN(const JsonPlace pair, place.Get(key));
    TANDEM_ASSIGN_OR_RETURN(const json::array* const list, pair.Array());
    if (list->size() != 2) return InvalidArgument("{} is not a pair", pair.place());
    TANDEM_ASSIGN_OR_RETURN(const TokenId id, IdAt(pair.At(1)));
    ids.push_back(id);
    return OkStatus();
  }

  // "single": special tokens around the one sequence.
  Status ReadTemplate(const JsonPlace& place) {
    TANDEM_ASSIGN_OR_RETURN(const JsonPlace single, place.Get("single"));
    TANDEM_ASSIGN_OR_RETURN(const json::array* const list, single.Array());
    std::vector<TokenId> before, after;
    bool seen_text = false;
    for (size_t i = 0; i < list->size(); ++i) {
      const JsonPlace item = single.At(i);
      const auto special = item.Find("SpecialToken");
      if (!special) {
        if (seen_text) return Unsupported("{}: a second text is not supported", item.place());
        seen_text = true;
        continue;
      }
      TANDEM_ASSIGN_OR_RETURN(const std::string_view name, special->StringAt("id"));
      TANDEM_RETURN_IF_ERROR(AddTemplateToken(place, name, seen_text ? after : before));
    }
    spec_.prefix.insert(spec_.prefix.begin(), before.begin(), before.end());
    spec_.suffix.insert(spec_.suffix.end(), after.begin(), after.end());
    return OkStatus();
  }

  Status AddTemplateToken(const JsonPlace& place, std::string_view name,
                          std::vector<TokenId>& ids) {
    TANDEM_ASSIGN_OR_RETURN(const JsonPlace tokens, place.Get("special_tokens"));
    TANDEM_ASSIGN_OR_RETURN(const JsonPlace token, tokens.Get(name));
    TANDEM_ASSIGN_OR_RETURN(const JsonPlace list, token.Get("ids"));
    TANDEM_ASSIGN_OR_RETURN(const json::array* const values, list.Array());
    for (size_t i = 0; i < values->size(); ++i) {
      TANDEM_ASSIGN_OR_RETURN(const TokenId id, IdAt(list.At(i)));
      ids.push_back(id);
    }
    return OkStatus();
  }

  Status ReadConfig(std::string_view text) {
    if (text.empty()) return OkStatus();
    TANDEM_ASSIGN_OR_RETURN(const json::value root, ParseJson(text, "tokenizer_config.json"));
    const JsonPlace top(root, "tokenizer_config.json: ");
    TANDEM_ASSIGN_OR_RETURN(spec_.bos, NamedToken(top, "bos_token"));
    TANDEM_ASSIGN_OR_RETURN(spec_.eos, NamedToken(top, "eos_token"));
    TANDEM_RETURN_IF_ERROR(Override(top, "add_bos_token", spec_.bos, spec_.prefix));
    return Override(top, "add_eos_token", spec_.eos, spec_.suffix);
  }

  // "text" or {"content": "text"}; kNoToken: none.
  StatusOr<TokenId> NamedToken(const JsonPlace& top, std::string_view key) const {
    const auto found = top.Find(key);
    if (!found) return kNoToken;
    const auto content = found->Find("content");
    TANDEM_ASSIGN_OR_RETURN(const std::string_view text, (content ? *content : *found).String());
    for (const AddedToken& token : spec_.added) {
      if (token.text == text) return token.id;
    }
    const TokenId id = FindVocabulary(text);
    if (id != kNoToken) return id;
    return InvalidArgument("{} '{}' is not in the vocabulary", found->place(), text);
  }

  TokenId FindVocabulary(std::string_view text) const {
    for (size_t id = 0; id < spec_.tokens.size(); ++id) {
      if (spec_.tokens[id].text == text) return static_cast<TokenId>(id);
    }
    return kNoToken;
  }

  // add_bos_token and add_eos_token, where they are said, go over the post-processor.
  static Status Override(const JsonPlace& top, std::string_view key, TokenId id,
                         std::vector<TokenId>& ids) {
    const auto found = top.Find(key);
    if (!found) return OkStatus();
    TANDEM_ASSIGN_OR_RETURN(const bool adds, found->Bool());
    if (!adds) {
      std::erase(ids, id);
    } else if (id == kNoToken) {
      return InvalidArgument("{} without such a token", found->place());
    } else if (std::find(ids.begin(), ids.end(), id) == ids.end()) {
      ids = {id};
    }
    return OkStatus();
  }

  // eos_token_id: a number or a list of them.
  Status ReadGeneration(std::string_view text) {
    if (text.empty()) return OkStatus();
    TANDEM_ASSIGN_OR_RETURN(const json::value root, ParseJson(text, "generation_config.json"));
    const auto eos = JsonPlace(root, "generation_config.json: ").Find("eos_token_id");
    if (!eos) return OkStatus();
    const size_t count = eos->value().is_array() ? eos->value().get_array().size() : 1;
    for (size_t i = 0; i < count; ++i) {
      TANDEM_ASSIGN_OR_RETURN(const TokenId id, IdAt(eos->value().is_array() ? eos->At(i) : *eos));
      spec_.end_ids.push_back(id);
    }
    if (spec_.eos == kNoToken && count > 0) spec_.eos = spec_.end_ids[0];
    return OkStatus();
  }

  TokenizerSpec spec_;
  IdOfToken ids_;  // borrows from the document while it is read
  int64_t max_id_ = 0;
  bool byte_fallback_ = false;
};

}  // namespace

StatusOr<TokenizerSpec> ReadTokenizerJson(const TokenizerFiles& files) {
  return Reader().Read(files);
}

}  // namespace tandem::text
