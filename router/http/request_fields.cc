#include "router/http/request_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <charconv>
#include <limits>

#include "router/http/json_text.h"

namespace tandem::http {
namespace {

namespace json = boost::json;

constexpr int32_t kMostInt = std::numeric_limits<int32_t>::max();
constexpr size_t kMostPromptTokens = 1 << 20;
constexpr float kMostBias = 100;

std::string_view View(json::string_view s) { return {s.data(), s.size()}; }

FieldError ReadModel(const std::string& param, const json::value& v, ApiRequest& out) {
  return ReadName(param, v, out.model);
}

FieldError ReadUser(const std::string& param, const json::value& v, ApiRequest& out) {
  return ReadName(param, v, out.user);
}

FieldError ReadSeed(const std::string& param, const json::value& v, ApiRequest& out) {
  if (v.is_int64()) {
    out.seed = static_cast<uint64_t>(v.get_int64());
  } else if (v.is_uint64()) {
    out.seed = v.get_uint64();
  } else {
    return WrongType(param, "an integer", v);
  }
  return std::nullopt;
}

FieldError ReadMaxTokens(const std::string& param, const json::value& v, ApiRequest& out) {
  int32_t value = 0;
  if (FieldError error = ReadInt(param, v, 1, kMostInt, value)) return error;
  if (out.max_tokens && *out.max_tokens != value) {
    return InvalidRequest(param, "max_tokens and max_completion_tokens differ; send one of them",
                          "invalid_value");
  }
  out.max_tokens = value;
  for (const char* name : {"max_output_tokens", "max_completion_tokens"}) {
    if (param == name) out.max_tokens_param = name;
  }
  return std::nullopt;
}

FieldError ReadStop(const std::string& param, const json::value& v, ApiRequest& out) {
  if (!v.is_string() && !v.is_array()) return WrongType(param, "a string or an array", v);
  if (v.is_string()) {
    out.stop.emplace_back(View(v.get_string()));
  } else {
    const json::array& array = v.get_array();
    if (array.size() > kMaxStopStrings) {
      return WrongValue(param, fmt::format("at most {} strings", kMaxStopStrings));
    }
    for (size_t i = 0; i < array.size(); ++i) {
      std::string& text = out.stop.emplace_back();
      FieldError error = ReadString(fmt::format("{}[{}]", param, i), array[i], text);
      if (error) return error;
    }
  }
  for (const std::string& text : out.stop) {
    if (text.empty() || text.size() > kMaxStopBytes) {
      return WrongValue(param, fmt::format("strings of 1 to {} bytes", kMaxStopBytes));
    }
  }
  return std::nullopt;
}

FieldError ReadStopTokenIds(const std::string& param, const json::value& v, ApiRequest& out) {
  return ReadTokenIds(param, v, kMaxStopTokenIds, out.stop_token_ids);
}

FieldError ReadStreamOptions(const std::string& param, const json::value& v, ApiRequest& out) {
  if (!v.is_object()) return WrongType(param, "an object", v);
  for (const auto& [key, value] : v.get_object()) {
    const std::string name = fmt::format("{}.{}", param, View(key));
    bool* to = View(key) == "include_usage"            ? &out.include_usage
               : View(key) == "continuous_usage_stats" ? &out.continuous_usage
                                                       : nullptr;
    if (to == nullptr) return UnknownField(name);
    if (value.is_null()) continue;
    if (FieldError error = ReadBool(name, value, *to)) return error;
  }
  return std::nullopt;
}

FieldError ReadOnePrompt(const std::string& param, const json::value& v, ApiPrompt& out) {
  if (v.is_array()) {
    FieldError error = ReadTokenIds(param, v, kMostPromptTokens, out.ids);
    if (!error && out.ids.empty()) return WrongValue(param, "at least one token id");
    return error;
  }
  if (FieldError error = ReadString(param, v, out.text)) return error;
  if (out.text.empty()) return WrongValue(param, "a string that is not empty");
  return std::nullopt;
}

// A string, ids, or a list of either.
FieldError ReadPrompt(const std::string& param, const json::value& v, ApiRequest& out) {
  const bool list = v.is_array() && !v.get_array().empty() &&
                    (v.get_array()[0].is_string() || v.get_array()[0].is_array());
  if (!list) {
    if (!v.is_string() && !v.is_array()) {
      return WrongType(param, "a string, an array of token ids, or an array of these", v);
    }
    return ReadOnePrompt(param, v, out.prompts.emplace_back());
  }
  const json::array& array = v.get_array();
  const auto most = static_cast<size_t>(out.embeds() ? kMaxInputs : kMaxSequences);
  if (array.size() > most) {
    return WrongValue(param, fmt::format("at most {} {}s", most, param));
  }
  for (size_t i = 0; i < array.size(); ++i) {
    FieldError error =
        ReadOnePrompt(fmt::format("{}[{}]", param, i), array[i], out.prompts.emplace_back());
    if (error) return error;
  }
  return std::nullopt;
}

// Of a chat whether there are any, of completions how many.
FieldError ReadLogprobs(const std::string& param, const json::value& v, ApiRequest& out) {
  if (out.endpoint == Endpoint::kChat) return ReadBool(param, v, out.logprobs);
  if (v.is_bool() && !v.get_bool()) return std::nullopt;
  out.logprobs = true;
  return ReadInt(param, v, 0, 20, out.top_logprobs);
}

FieldError ReadLogitBias(const std::string& param, const json::value& v, ApiRequest& out) {
  if (!v.is_object()) return WrongType(param, "an object", v);
  if (v.get_object().size() > kMaxLogitBiases) {
    return WrongValue(param, fmt::format("at most {} tokens", kMaxLogitBiases));
  }
  for (const auto& [key, value] : v.get_object()) {
    const std::string_view text = View(key);
    TokenId id = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (error != std::errc() || end != text.data() + text.size() || id < 0) {
      return WrongValue(param, "token ids as keys");
    }
    const std::string name = fmt::format("{}.{}", param, id);
    if (!value.is_number()) return WrongType(name, "a number", value);
    const auto bias = value.to_number<double>();
    if (!(std::abs(bias) <= kMostBias)) return WrongValue(name, "a number from -100 to 100");
    out.logit_bias.emplace_back(id, static_cast<float>(bias));
  }
  std::sort(out.logit_bias.begin(), out.logit_bias.end());
  const auto same = [](const auto& a, const auto& b) { return a.first == b.first; };
  if (std::adjacent_find(out.logit_bias.begin(), out.logit_bias.end(), same) !=
      out.logit_bias.end()) {
    return WrongValue(param, "each token id once");
  }
  return std::nullopt;
}

FieldError ReadInstructions(const std::string& param, const json::value& v, ApiRequest& out) {
  return ReadString(param, v, out.instructions);
}

FieldError ReadAddSpecialTokens(const std::string& param, const json::value& v, ApiRequest& out) {
  return ReadBool(param, v, out.add_special_tokens.emplace());
}

FieldError ReadTokens(const std::string& param, const json::value& v, ApiRequest& out) {
  return ReadTokenIds(param, v, kMostPromptTokens, out.prompts.emplace_back().ids);
}

// One text.
FieldError ReadText(const std::string& param, const json::value& v, ApiRequest& out) {
  return ReadString(param, v, out.prompts.emplace_back().text);
}

FieldError ReadPriority(const std::string& param, const json::value& v, ApiRequest& out) {
  return ReadInt(param, v, -kMostInt, kMostInt, out.priority.emplace());
}

FieldError ReadCacheSalt(const std::string& param, const json::value& v, ApiRequest& out) {
  if (FieldError error = ReadName(param, v, out.cache_salt)) return error;
  if (out.cache_salt.empty()) return WrongValue(param, "a string that is not empty");
  return std::nullopt;
}

FieldError ReadServiceTier(const std::string& param, const json::value& v, ApiRequest& out) {
  if (FieldError error = ReadString(param, v, out.service_tier)) return error;
  if (out.service_tier == "auto" || out.service_tier == "default") return std::nullopt;
  return NotSupported(param, "there is one tier, 'default'; 'auto' means it too");
}

FieldError ReadMetadata(const std::string& param, const json::value& v, ApiRequest& out) {
  if (!v.is_object()) return WrongType(param, "an object", v);
  if (v.get_object().size() > kMaxMetadataPairs) {
    return WrongValue(param, fmt::format("at most {} pairs", kMaxMetadataPairs));
  }
  for (const auto& [key, value] : v.get_object()) {
    const std::string name = fmt::format("{}.{}", param, View(key));
    if (!value.is_string()) return WrongType(name, "a string", value);
    if (key.size() > 64 || value.get_string().size() > 512) {
      return WrongValue(param, "keys of at most 64 bytes and values of at most 512");
    }
    out.metadata += out.metadata.empty() ? '{' : ',';
    AppendJsonString(out.metadata, View(key));
    out.metadata += ':';
    AppendJsonString(out.metadata, View(value.get_string()));
  }
  if (!out.metadata.empty()) out.metadata += '}';
  return std::nullopt;
}

constexpr std::array kFields = {
    Field{"model", kOnText | kOnEmbeddings, &ReadModel, R"({"type":"string","maxLength":256})",
          true},
    Field{"messages", kOnChat, &ReadMessages,
          R"({"type":"array","minItems":1,"items":{"$ref":"#/components/schemas/Message"}})", true},
    Field{"prompt", kOnCompletions, &ReadPrompt, R"({"$ref":"#/components/schemas/Prompt"})", true},
    Field{"model", kOnTokenize | kOnDetokenize, &ReadModel,
          R"({"type":["string","null"],"maxLength":256})"},
    Field{"messages", kOnTokenize | kOnEmbeddings, &ReadMessages,
          R"({"anyOf":[{"type":"null"},{"type":"array","minItems":1,)"
          R"("items":{"$ref":"#/components/schemas/Message"}}]})"},
    Field{"prompt", kOnTokenize, &ReadText, R"({"type":["string","null"]})"},
    Field{"tokens", kOnDetokenize, &ReadTokens,
          R"({"type":"array","items":{"type":"integer","minimum":0,"maximum":2147483647}})", true},
    Field{"input", kOnEmbeddings, &ReadPrompt,
          R"({"anyOf":[{"type":"null"},{"$ref":"#/components/schemas/Inputs"}]})"},
    Field{"encoding_format", kOnEmbeddings, &ReadEncodingFormat,
          R"({"enum":[null,"float","base64"]})"},
    Field{"truncate_prompt_tokens", kOnEmbeddings, &ReadTruncation,
          R"({"anyOf":[{"enum":[null,-1]},{"type":"integer","minimum":1,"maximum":2147483647}]})"},
    Field{"truncation_side", kOnEmbeddings, &ReadTruncationSide,
          R"({"enum":[null,"left","right"]})"},
    Field{"normalize", kOnEmbeddings, &ReadNormalize, R"({"type":["boolean","null"]})"},
    Field{"use_activation", kOnEmbeddings, &ReadNormalize, R"({"type":["boolean","null"]})"},
    Field{"add_special_tokens", kOnBoth | kOnTokenize | kOnEmbeddings, &ReadAddSpecialTokens,
          R"({"type":["boolean","null"]})"},
    Field{"chat_template_kwargs", kOnChat | kOnTokenize | kOnEmbeddings, &ReadTemplateKwargs,
          R"({"type":["object","null"],"propertyNames":{"not":{"enum":[)"
          R"("messages","tools","documents","add_generation_prompt","continue_final_message",)"
          R"("chat_template","tokenize"]}}})"},
    Field{"documents", kOnChat, &ReadDocuments,
          R"({"type":["array","null"],"items":{"type":"object",)"
          R"("additionalProperties":{"type":"string"}}})"},
    Field{
        "tools", kOnChat | kOnTokenize, &ReadTools,
        R"({"type":["array","null"],"maxItems":128,"items":{"$ref":"#/components/schemas/Tool"}})"},
    Field{"tool_choice", kOnChat, &ReadToolChoice,
          R"({"anyOf":[{"enum":[null,"none","auto","required"]},)"
          R"({"$ref":"#/components/schemas/ToolChoice"}]})"},
    Field{"reasoning_effort", kOnChat, &ReadReasoningEffort,
          R"({"enum":[null,"none","minimal","low","medium","high","xhigh","max"]})"},
    Field{"input", kOnResponses, &ReadInput, R"({"$ref":"#/components/schemas/Input"})", true},
    Field{"tools", kOnResponses, &ReadTools,
          R"({"type":["array","null"],"maxItems":128,)"
          R"("items":{"$ref":"#/components/schemas/FlatTool"}})"},
    Field{"tool_choice", kOnResponses, &ReadToolChoice,
          R"({"anyOf":[{"enum":[null,"none","auto","required"]},)"
          R"({"$ref":"#/components/schemas/FlatToolChoice"}]})"},
    Field{"reasoning", kOnResponses, &ReadReasoning,
          R"({"type":["object","null"],"additionalProperties":false,"properties":{"effort":)"
          R"({"enum":[null,"none","minimal","low","medium","high","xhigh","max"]},)"
          R"("summary":{"type":"null"},"generate_summary":{"type":"null"}}})"},
    Field{"instructions", kOnResponses, &ReadInstructions, R"({"type":["string","null"]})"},
    Field{"max_output_tokens", kOnResponses, &ReadMaxTokens,
          R"({"type":["integer","null"],"minimum":1,"maximum":2147483647})"},
    Field{"stream_options", kOnBoth, &ReadStreamOptions,
          R"({"type":["object","null"],"additionalProperties":false,"properties":{)"
          R"("include_usage":{"type":["boolean","null"]},)"
          R"("continuous_usage_stats":{"type":["boolean","null"]}}})"},
    Field{"stop", kOnBoth, &ReadStop,
          R"({"anyOf":[{"type":"null"},{"type":"string","minLength":1,"maxLength":256},)"
          R"({"type":"array","maxItems":4,)"
          R"("items":{"type":"string","minLength":1,"maxLength":256}}]})"},
    Field{"stop_token_ids", kOnBoth, &ReadStopTokenIds,
          R"({"type":["array","null"],"maxItems":64,"items":{"type":"integer","minimum":0,)"
          R"("maximum":2147483647}})"},
    Field{"seed", kOnBoth, &ReadSeed,
          R"({"type":["integer","null"],"minimum":-9223372036854775808,)"
          R"("maximum":18446744073709551615})"},
    Field{"max_tokens", kOnBoth, &ReadMaxTokens,
          R"({"type":["integer","null"],"minimum":1,"maximum":2147483647})"},
    Field{"max_completion_tokens", kOnChat, &ReadMaxTokens,
          R"({"type":["integer","null"],"minimum":1,"maximum":2147483647})"},
    Field{"logprobs", kOnChat, &ReadLogprobs, R"({"type":["boolean","null"]})"},
    Field{"logprobs", kOnCompletions, &ReadLogprobs,
          R"({"anyOf":[{"type":"integer","minimum":0,"maximum":20},{"enum":[null,false]}]})"},
    Field{
        "logit_bias", kOnBoth, &ReadLogitBias,
        R"({"type":["object","null"],"maxProperties":300,"propertyNames":{"pattern":"^[0-9]{1,9}$"},)"
        R"("additionalProperties":{"type":"number","minimum":-100,"maximum":100}})"},
    Field{"response_format", kOnBoth, &ReadResponseFormat,
          R"({"anyOf":[{"type":"null"},{"$ref":"#/components/schemas/ResponseFormat"}]})"},
    Field{"text", kOnResponses, &ReadTextFormat,
          R"({"anyOf":[{"type":"null"},{"$ref":"#/components/schemas/TextFormat"}]})"},
    Field{"structured_outputs", kOnBoth, &ReadStructuredOutputs,
          R"({"anyOf":[{"type":"null"},{"$ref":"#/components/schemas/StructuredOutputs"}]})"},
    Field{"guided_json", kOnBoth, &ReadGuided,
          R"({"anyOf":[{"type":"null"},{"$ref":"#/components/schemas/JsonSchema"}]})"},
    Field{"guided_regex", kOnBoth, &ReadGuided, R"({"type":["string","null"]})"},
    Field{"guided_choice", kOnBoth, &ReadGuided,
          R"({"type":["array","null"],"minItems":1,"items":{"type":"string","minLength":1}})"},
    Field{"guided_grammar", kOnBoth, &ReadGuided, R"({"type":["string","null"]})"},
    Field{"priority", kOnText | kOnEmbeddings, &ReadPriority,
          R"({"type":["integer","null"],"minimum":-2147483647,"maximum":2147483647})"},
    Field{"cache_salt", kOnText | kOnEmbeddings, &ReadCacheSalt,
          R"({"type":["string","null"],"minLength":1,"maxLength":64})"},
    Field{"service_tier", kOnText, &ReadServiceTier, R"({"enum":[null,"auto","default"]})"},
    Field{"user", kOnText | kOnEmbeddings, &ReadUser,
          R"({"type":["string","null"],"maxLength":64})"},
    Field{"metadata", kOnText, &ReadMetadata,
          R"({"type":["object","null"],"maxProperties":16,"propertyNames":{"maxLength":16},)"
          R"("additionalProperties":{"type":"string","maxLength":128}})"},
};

constexpr std::array kNumbers = {
    NumberField{"temperature", kOnText, 0, 2, false, false, &ApiRequest::temperature},
    NumberField{"top_p", kOnText, 0, 1, true, false, &ApiRequest::top_p},
    NumberField{"min_p", kOnBoth, 0, 1, false, true, &ApiRequest::min_p},
    NumberField{"presence_penalty", kOnBoth, -2, 2, false, false, &ApiRequest::presence_penalty},
    NumberField{"frequency_penalty", kOnBoth, -2, 2, false, false, &ApiRequest::frequency_penalty},
    NumberField{"repetition_penalty", kOnBoth, 0.01, 100, false, false,
                &ApiRequest::repetition_penalty},
};

constexpr std::array kInts = {
    IntField{"n", kOnBoth, 1, kMaxChoices, &ApiRequest::n},
    IntField{"best_of", kOnBoth, 1, kMaxChoices, &ApiRequest::best_of},
    IntField{"top_k", kOnBoth, -1, kMostInt, &ApiRequest::top_k},
    IntField{"min_tokens", kOnBoth, 0, kMostInt, &ApiRequest::min_tokens},
    IntField{"top_logprobs", kOnChat, 0, 20, &ApiRequest::top_logprobs},
    IntField{"truncate_prompt_tokens", kOnBoth, 1, kMostInt, &ApiRequest::truncate_prompt_tokens},
    IntField{"dimensions", kOnEmbeddings, 1, kMostInt, &ApiRequest::dimensions},
};

constexpr std::array kFlags = {
    FlagField{"stream", kOnText, &ApiRequest::stream},
    FlagField{"ignore_eos", kOnBoth, &ApiRequest::ignore_eos},
    FlagField{"include_stop_str_in_output", kOnBoth, &ApiRequest::include_stop},
    FlagField{"skip_special_tokens", kOnBoth, &ApiRequest::skip_special_tokens},
    FlagField{"return_token_ids", kOnBoth, &ApiRequest::return_token_ids},
    FlagField{"return_tokens_as_token_ids", kOnBoth, &ApiRequest::token_ids_for_text},
    FlagField{"return_token_strs", kOnTokenize, &ApiRequest::return_token_strs},
    FlagField{"parallel_tool_calls", kOnChat | kOnResponses, &ApiRequest::parallel_tool_calls},
    FlagField{"include_reasoning", kOnChat, &ApiRequest::include_reasoning},
    FlagField{"add_generation_prompt", kOnChat | kOnTokenize | kOnEmbeddings,
              &ApiRequest::add_generation_prompt},
    FlagField{"continue_final_message", kOnChat | kOnTokenize | kOnEmbeddings,
              &ApiRequest::continue_final_message},
    FlagField{"echo", kOnCompletions, &ApiRequest::echo},
};

constexpr std::string_view kNoTools = "calls are the client's to make and to count";
constexpr std::string_view kNoImages = "only text is";
constexpr std::string_view kOneStrategy = "sequences are sampled, one by one";

constexpr std::string_view kNothingKept = "nothing is kept of a response";

constexpr std::array kRefused = {
    RefusedField{"store", kOnResponses, "[false]", kNothingKept},
    RefusedField{"previous_response_id", kOnResponses, "", kNothingKept},
    RefusedField{"conversation", kOnResponses, "", kNothingKept},
    RefusedField{"prompt", kOnResponses, "", kNothingKept},
    RefusedField{"background", kOnResponses, "[false]", kNothingKept},
    RefusedField{"max_tool_calls", kOnResponses, "", kNoTools},
    RefusedField{"include", kOnResponses, "[[]]", "there is nothing beside the text"},
    RefusedField{"top_logprobs", kOnResponses, "[0]", "there is nothing beside the text"},
    RefusedField{"truncation", kOnResponses, R"(["disabled"])", "nothing is left out of prompts"},
    RefusedField{"stream_options", kOnResponses, R"([{},{"include_obfuscation":false}])",
                 "there are none"},
    RefusedField{"prompt_cache_key", kOnResponses, "",
                 "prefixes are found by their tokens; see cache_salt, and the session header"},
    RefusedField{"safety_identifier", kOnResponses, "", "send 'user'"},
    RefusedField{"request_id", kOnResponses, "", "send the header x-request-id"},
    RefusedField{"suffix", kOnCompletions, "", "insertion is not available"},
    RefusedField{"echo", kOnChat, "[false]", "the prompt is not echoed"},
    RefusedField{"prompt_logprobs", kOnBoth, "",
                 "prompts that are cached are not computed, so they have no logits"},
    RefusedField{"allowed_token_ids", kOnBoth, "", "use logit_bias"},
    RefusedField{"bad_words", kOnBoth, "[[]]", "use logit_bias"},
    RefusedField{"guided_decoding_backend", kOnBoth, "", "there is one"},
    RefusedField{"guided_whitespace_pattern", kOnBoth, "", "JSON has the white space it has here"},
    RefusedField{"structural_tag", kOnBoth, "", "a grammar holds for the whole reply"},
    RefusedField{"functions", kOnChat, "[[]]", "send 'tools'"},
    RefusedField{"function_call", kOnChat, R"(["none"])", "send 'tool_choice'"},
    RefusedField{"modalities", kOnChat, R"([["text"]])", kNoImages},
    RefusedField{"audio", kOnChat, "", kNoImages},
    RefusedField{"mm_processor_kwargs", kOnChat | kOnTokenize | kOnEmbeddings, "", kNoImages},
    RefusedField{"media_io_kwargs", kOnEmbeddings, "", kNoImages},
    RefusedField{"embed_dtype", kOnEmbeddings, R"(["float32"])", "numbers are of 32 bits"},
    RefusedField{"endianness", kOnEmbeddings, R"(["native","little"])", "the low byte goes first"},
    RefusedField{"padding", kOnEmbeddings, R"(["do_not_pad"])", "nothing is padded"},
    RefusedField{"task", kOnEmbeddings, R"(["embed"])", "there is one"},
    RefusedField{"prediction", kOnChat, "", "predicted output is not available"},
    RefusedField{"web_search_options", kOnChat, "", "the model cannot search"},
    RefusedField{"verbosity", kOnChat, "", "the model has no such setting"},
    RefusedField{"store", kOnChat, "[false]", "nothing is stored"},
    RefusedField{"prompt_cache_key", kOnChat, "",
                 "prefixes are found by their tokens; see cache_salt, and the session header"},
    RefusedField{"safety_identifier", kOnChat, "", "send 'user'"},
    RefusedField{"chat_template", kOnChat | kOnTokenize | kOnEmbeddings, "",
                 "the model's own is used"},
    RefusedField{"use_beam_search", kOnBoth, "[false]", kOneStrategy},
    RefusedField{"length_penalty", kOnBoth, "[1,1.0]", kOneStrategy},
    RefusedField{"early_stopping", kOnBoth, "[false]", kOneStrategy},
    RefusedField{"spaces_between_special_tokens", kOnBoth, "[true]",
                 "text is what tokens decode to"},
    RefusedField{"request_id", kOnBoth | kOnEmbeddings, "", "send the header x-request-id"},
    RefusedField{"logits_processors", kOnBoth, "[[]]", "code is not taken from requests"},
    RefusedField{"kv_transfer_params", kOnBoth, "", "where KV lies is not the client's affair"},
    RefusedField{"vllm_xargs", kOnBoth, "", "there are none"},
    RefusedField{"prompt_embeds", kOnCompletions, "", "prompts are text or token ids"},
    RefusedField{"mm_processor_kwargs", kOnCompletions, "", kNoImages},
};

template <class Table>
auto Find(const Table& table, std::string_view name, uint8_t on) -> decltype(table.data()) {
  for (const auto& field : table) {
    if ((field.on & on) != 0 && field.name == name) return &field;
  }
  return nullptr;
}

std::string InWords(const NumberField& f) {
  if (f.above_low) return fmt::format("a number above {}, up to {}", f.low, f.high);
  if (f.below_high) return fmt::format("a number from {}, below {}", f.low, f.high);
  return fmt::format("a number from {} to {}", f.low, f.high);
}

FieldError Read(const NumberField& field, const json::value& v, ApiRequest& out) {
  const std::string param(field.name);
  if (!v.is_number()) return WrongType(param, "a number", v);
  const auto number = v.to_number<double>();
  const auto rounded = static_cast<float>(number);  // a bound that is out stays out
  const bool in = number >= field.low && number <= field.high &&
                  !(field.above_low && rounded <= static_cast<float>(field.low)) &&
                  !(field.below_high && rounded >= static_cast<float>(field.high));
  if (!in) return WrongValue(param, InWords(field));
  out.*field.to = rounded;
  return std::nullopt;
}

FieldError Read(const RefusedField& field, const json::value& v) {
  if (!field.neutral.empty()) {
    const json::value neutral =
        json::parse(json::string_view(field.neutral.data(), field.neutral.size()));
    for (const json::value& same : neutral.get_array()) {
      if (same == v) return std::nullopt;
    }
  }
  return NotSupported(std::string(field.name), field.why);
}

}  // namespace

std::span<const Field> Fields() { return kFields; }
std::span<const NumberField> NumberFields() { return kNumbers; }
std::span<const IntField> IntFields() { return kInts; }
std::span<const FlagField> FlagFields() { return kFlags; }
std::span<const RefusedField> RefusedFields() { return kRefused; }

FieldError ReadField(std::string_view name, const json::value& v, ApiRequest& out) {
  const uint8_t on = SetOf(out.endpoint);
  if (const Field* field = Find(kFields, name, on)) {
    if (v.is_null() && !field->required) return std::nullopt;
    return field->read(std::string(name), v, out);
  }
  if (const NumberField* field = Find(kNumbers, name, on)) {
    return v.is_null() ? std::nullopt : Read(*field, v, out);
  }
  if (const IntField* field = Find(kInts, name, on)) {
    if (v.is_null()) return std::nullopt;
    return ReadInt(std::string(name), v, field->low, field->high, out.*field->to);
  }
  if (const FlagField* field = Find(kFlags, name, on)) {
    return v.is_null() ? std::nullopt : ReadBool(std::string(name), v, out.*field->to);
  }
  if (const RefusedField* field = Find(kRefused, name, on)) {
    return v.is_null() ? std::nullopt : Read(*field, v);
  }
  return UnknownField(std::string(name));
}

std::string SchemaOf(const NumberField& field) {
  return fmt::format(R"({{"type":["number","null"],"{}":{},"{}":{}}})",
                     field.above_low ? "exclusiveMinimum" : "minimum", field.low,
                     field.below_high ? "exclusiveMaximum" : "maximum", field.high);
}

std::string SchemaOf(const IntField& field) {
  return fmt::format(R"({{"type":["integer","null"],"minimum":{},"maximum":{}}})", field.low,
                     field.high);
}

std::string SchemaOf(const RefusedField& field) {
  if (field.neutral.empty()) return R"({"type":"null"})";
  return fmt::format(R"({{"enum":[null,{}]}})", field.neutral.substr(1, field.neutral.size() - 2));
}

}  // namespace tandem::http
