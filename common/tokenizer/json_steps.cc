#include "common/tokenizer/json_steps.h"

#include <string>
#include <utility>

namespace tandem::text {
namespace {

using Behavior = PreTokenizer::Behavior;

Status NotSupported(const JsonPlace& place, std::string_view type) {
  return Unsupported("{}.type '{}' is not supported", place.place(), type);
}

// Calls `read` for each element of the list `key`.
template <class Read>
Status ForEach(const JsonPlace& place, std::string_view key, Read read) {
  TANDEM_ASSIGN_OR_RETURN(const JsonPlace list, place.Get(key));
  TANDEM_ASSIGN_OR_RETURN(const json::array* const items, list.Array());
  for (size_t i = 0; i < items->size(); ++i) TANDEM_RETURN_IF_ERROR(read(list.At(i)));
  return OkStatus();
}

// Regex's errors, with the place before them.
StatusOr<Regex> At(const JsonPlace& place, StatusOr<Regex> regex) {
  if (regex.ok()) return regex;
  return MakeStatus(regex.status().code(),
                    fmt::format("{}: {}", place.place(), Message(regex.status())));
}

// {"String": "..."} or {"Regex": "..."}; the first as `literal` if that is wanted.
StatusOr<Regex> ReadPattern(const JsonPlace& place) {
  TANDEM_ASSIGN_OR_RETURN(const JsonPlace pattern, place.Get("pattern"));
  if (const auto regex = pattern.Find("Regex")) {
    TANDEM_ASSIGN_OR_RETURN(const std::string_view text, regex->String());
    return At(*regex, Regex::Compile(text));
  }
  TANDEM_ASSIGN_OR_RETURN(const std::string_view text, pattern.StringAt("String"));
  return At(pattern, Regex::Literal(text));
}

StatusOr<Behavior> ReadBehavior(const JsonPlace& place) {
  TANDEM_ASSIGN_OR_RETURN(const std::string_view name, place.StringAt("behavior"));
  constexpr std::pair<std::string_view, Behavior> kBehaviors[] = {
      {"Removed", Behavior::kRemoved},
      {"Isolated", Behavior::kIsolated},
      {"MergedWithPrevious", Behavior::kMergedWithPrevious},
      {"MergedWithNext", Behavior::kMergedWithNext},
      {"Contiguous", Behavior::kContiguous},
  };
  for (const auto& [known, behavior] : kBehaviors) {
    if (known == name) return behavior;
  }
  return Unsupported("{}.behavior '{}' is not supported", place.place(), name);
}

Status AddReplace(const JsonPlace& place, Normalizer& normalizer) {
  TANDEM_ASSIGN_OR_RETURN(const std::string_view content, place.StringAt("content"));
  TANDEM_ASSIGN_OR_RETURN(const JsonPlace pattern, place.Get("pattern"));
  const auto text = pattern.Find("String");
  if (!text) {
    TANDEM_ASSIGN_OR_RETURN(Regex regex, ReadPattern(place));
    normalizer.AddReplace(std::move(regex), std::string(content));
    return OkStatus();
  }
  TANDEM_ASSIGN_OR_RETURN(const std::string_view what, text->String());
  if (what.empty()) return InvalidArgument("{} is empty", text->place());
  normalizer.AddReplace(std::string(what), std::string(content));
  return OkStatus();
}

// One decoder of a list; `fused`: tokens have become one text.
Status AddDecoder(const JsonPlace& place, TokenizerSpec& spec, bool& fused) {
  TANDEM_ASSIGN_OR_RETURN(const std::string_view type, place.StringAt("type"));
  if (type == "Sequence") {
    return ForEach(place, "decoders",
                   [&](const JsonPlace& inner) { return AddDecoder(inner, spec, fused); });
  }
  if (type == "ByteFallback" || type == "Fuse") {
    (type == "Fuse" ? fused : spec.decode_bytes) = true;
    return OkStatus();
  }
  if (type == "Replace" && !fused) {
    TANDEM_ASSIGN_OR_RETURN(const JsonPlace pattern, place.Get("pattern"));
    TANDEM_ASSIGN_OR_RETURN(const std::string_view what, pattern.StringAt("String"));
    TANDEM_ASSIGN_OR_RETURN(const std::string_view with, place.StringAt("content"));
    if (what.empty()) return InvalidArgument("{} is empty", pattern.place());
    spec.decode_replace.emplace_back(what, with);
    return OkStatus();
  }
  if (type == "Strip" && fused) {
    TANDEM_ASSIGN_OR_RETURN(const std::string_view content, place.StringAt("content"));
    TANDEM_ASSIGN_OR_RETURN(const JsonPlace start, place.Get("start"));
    TANDEM_ASSIGN_OR_RETURN(const int64_t count, start.Int());
    TANDEM_ASSIGN_OR_RETURN(const JsonPlace stop, place.Get("stop"));
    TANDEM_ASSIGN_OR_RETURN(const int64_t at_end, stop.Int());
    if (content != " " || at_end != 0 || count < 0 || count > 1000) {
      return Unsupported("{}: a Strip of other than spaces at the beginning is not supported",
                         place.place());
    }
    spec.decode_strip = static_cast<int>(count);
    return OkStatus();
  }
  return Unsupported("{}.type '{}' is not supported here", place.place(), type);
}

Status ReadMetaspaceDecoder(const JsonPlace& place, TokenizerSpec& spec) {
  TANDEM_ASSIGN_OR_RETURN(const std::string_view replacement, place.StringAt("replacement"));
  if (replacement.empty()) return InvalidArgument("{}.replacement is empty", place.place());
  spec.decode_replace.emplace_back(replacement, " ");
  const auto scheme = place.Find("prepend_scheme");
  if (!scheme) {
    TANDEM_ASSIGN_OR_RETURN(const bool prefix, place.BoolAt("add_prefix_space", true));
    spec.decode_strip = prefix ? 1 : 0;
    return OkStatus();
  }
  TANDEM_ASSIGN_OR_RETURN(const std::string_view name, scheme->String());
  spec.decode_strip = name == "never" ? 0 : 1;
  return OkStatus();
}

}  // namespace

Status AddNormalizer(const JsonPlace& place, Normalizer& normalizer) {
  using Form = Normalizer::Form;
  TANDEM_ASSIGN_OR_RETURN(const std::string_view type, place.StringAt("type"));
  if (type == "Sequence") {
    return ForEach(place, "normalizers",
                   [&](const JsonPlace& inner) { return AddNormalizer(inner, normalizer); });
  }
  if (type == "Replace") return AddReplace(place, normalizer);
  if (type == "Prepend") {
    TANDEM_ASSIGN_OR_RETURN(const std::string_view what, place.StringAt("prepend"));
    normalizer.AddPrepend(std::string(what));
  } else if (type == "Strip") {
    TANDEM_ASSIGN_OR_RETURN(const bool left, place.BoolAt("strip_left", true));
    TANDEM_ASSIGN_OR_RETURN(const bool right, place.BoolAt("strip_right", true));
    normalizer.AddStrip(left, right);
  } else if (type == "Lowercase") {
    normalizer.AddLowercase();
  } else if (type == "NFC") {
    normalizer.AddForm(Form::kNfc);
  } else if (type == "NFD") {
    normalizer.AddForm(Form::kNfd);
  } else if (type == "NFKC") {
    normalizer.AddForm(Form::kNfkc);
  } else if (type == "NFKD") {
    normalizer.AddForm(Form::kNfkd);
  } else {
    return NotSupported(place, type);
  }
  return OkStatus();
}

Status PreTokenizerReader::Add(const JsonPlace& place) {
  TANDEM_ASSIGN_OR_RETURN(const std::string_view type, place.StringAt("type"));
  if (type == "Sequence") {
    return ForEach(place, "pretokenizers", [&](const JsonPlace& inner) { return Add(inner); });
  }
  if (byte_level_) {
    return Unsupported("{}: a step after ByteLevel is not supported", place.place());
  }
  if (type == "Split") return AddSplit(place);
  if (type == "ByteLevel") return AddByteLevel(place);
  if (type == "Metaspace") return AddMetaspace(place);
  return AddOther(place, type);
}

Status PreTokenizerReader::AddSplit(const JsonPlace& place) {
  TANDEM_ASSIGN_OR_RETURN(Regex regex, ReadPattern(place));
  TANDEM_ASSIGN_OR_RETURN(const Behavior behavior, ReadBehavior(place));
  TANDEM_ASSIGN_OR_RETURN(const bool invert, place.BoolAt("invert", false));
  pre_tokenizer_.AddSplit(std::move(regex), behavior, invert);
  return OkStatus();
}

Status PreTokenizerReader::AddByteLevel(const JsonPlace& place) {
  TANDEM_ASSIGN_OR_RETURN(const bool prefix, place.BoolAt("add_prefix_space", true));
  TANDEM_ASSIGN_OR_RETURN(const bool use_regex, place.BoolAt("use_regex", true));
  if (prefix) pre_tokenizer_.AddPrefixSpace();
  if (use_regex) {
    TANDEM_ASSIGN_OR_RETURN(Regex regex, PreTokenizer::Gpt2());
    pre_tokenizer_.AddSplit(std::move(regex), Behavior::kIsolated);
  }
  byte_level_ = true;
  return OkStatus();
}

Status PreTokenizerReader::AddMetaspace(const JsonPlace& place) {
  using Prepend = PreTokenizer::Prepend;
  TANDEM_ASSIGN_OR_RETURN(const std::string_view replacement, place.StringAt("replacement"));
  TANDEM_ASSIGN_OR_RETURN(const bool split, place.BoolAt("split", true));
  TANDEM_ASSIGN_OR_RETURN(const bool prefix, place.BoolAt("add_prefix_space", true));
  if (replacement.empty()) return InvalidArgument("{}.replacement is empty", place.place());
  Prepend prepend = prefix ? Prepend::kAlways : Prepend::kNever;
  if (const auto scheme = place.Find("prepend_scheme")) {
    TANDEM_ASSIGN_OR_RETURN(const std::string_view name, scheme->String());
    if (name != "always" && name != "first" && name != "never") {
      return Unsupported("{} '{}' is not supported", scheme->place(), name);
    }
    prepend = name == "always"  ? Prepend::kAlways
              : name == "first" ? Prepend::kFirst
                                : Prepend::kNever;
  }
  pre_tokenizer_.AddMetaspace(std::string(replacement), prepend);
  if (!split) return OkStatus();
  TANDEM_ASSIGN_OR_RETURN(Regex regex, At(place, Regex::Literal(replacement)));
  pre_tokenizer_.AddSplit(std::move(regex), Behavior::kMergedWithNext);
  return OkStatus();
}

Status PreTokenizerReader::AddOther(const JsonPlace& place, std::string_view type) {
  CodeSet set;
  bool repeated = false;
  Behavior behavior = Behavior::kIsolated;
  if (type == "Digits") {
    TANDEM_ASSIGN_OR_RETURN(const bool individual, place.BoolAt("individual_digits", false));
    set = CodeSet::Number();
    repeated = !individual;
  } else if (type == "Punctuation") {
    set = CodeSet::Punctuation();
    if (place.Find("behavior")) {
      TANDEM_ASSIGN_OR_RETURN(behavior, ReadBehavior(place));
    }
  } else if (type == "WhitespaceSplit") {
    set = CodeSet::Space();
    behavior = Behavior::kRemoved;
  } else if (type == "Whitespace") {
    TANDEM_ASSIGN_OR_RETURN(Regex regex, Regex::Compile(R"(\w+|[^\w\s]+)"));
    pre_tokenizer_.AddSplit(std::move(regex), Behavior::kRemoved, /*invert=*/true);
    return OkStatus();
  } else {
    return NotSupported(place, type);
  }
  TANDEM_ASSIGN_OR_RETURN(Regex regex, Regex::OneOf(set, repeated));
  pre_tokenizer_.AddSplit(std::move(regex), behavior);
  return OkStatus();
}

Status ReadDecoder(const JsonPlace& place, TokenizerSpec& spec) {
  TANDEM_ASSIGN_OR_RETURN(const std::string_view type, place.StringAt("type"));
  spec.replace_added = true;
  if (spec.byte_level != (type == "ByteLevel")) {
    return Unsupported(
        "{}.type '{}' does not fit the pre-tokenizer: {}", place.place(), type,
        spec.byte_level ? "ByteLevel goes with ByteLevel" : "there is no ByteLevel in it");
  }
  if (type == "ByteLevel") return OkStatus();
  if (type == "Metaspace") return ReadMetaspaceDecoder(place, spec);
  bool fused = false;
  return AddDecoder(place, spec, fused);
}

}  // namespace tandem::text
