// The OpenAI request, read and checked: what a body says, in our words. A field that is not known,
// not supported or of the wrong type is refused by name; nothing is accepted and ignored, except
// values that say what would happen anyway. request_fields.h has the table, docs/api.md explains
// it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/grammar_spec.h"
#include "common/ids.h"
#include "router/http/error.h"
#include "router/text/jinja_value.h"

namespace tandem::http {

enum class Endpoint : uint8_t {
  kChat,
  kCompletions,
  kTokenize,
  kDetokenize,
  kResponses,
  kEmbeddings
};

inline constexpr int kMaxStopStrings = 4;
inline constexpr int kMaxStopBytes = 1024;   // of one; the decoder holds back up to this much
inline constexpr int kMaxStopTokenIds = 64;  // with what ends a turn: what min_tokens holds back
inline constexpr int kMaxLogitBiases = 300;
inline constexpr int kMaxChoices = 128;    // n, best_of
inline constexpr int kMaxSequences = 256;  // of one request: prompts times best_of
inline constexpr int kMaxInputs = 2048;    // of one request for embeddings
inline constexpr int kMaxMetadataPairs = 16;

// A call of a function that an earlier reply made.
struct ApiToolCall {
  std::string id;  // empty: none was said
  std::string name;
  text::JinjaValue arguments;  // a map
};

// Of truncate_prompt_tokens, kEmbeddings only: as many as the context holds.
inline constexpr int32_t kTruncateToContext = -1;
// ApiRequest::top_k.
inline constexpr int32_t kAbsentTopK = -2;

struct ApiMessage {
  std::string role;  // system | developer | user | assistant | tool
  std::string content;
  std::string name = {};                     // of who speaks; empty: not said
  std::string tool_call_id = {};             // tool: what it answers
  std::string reasoning = {};                // assistant
  std::vector<ApiToolCall> tool_calls = {};  // assistant
};

// A function that the model may call.
struct ApiTool {
  std::string json;             // {"type":"function","function":{...}}
  text::JinjaValue definition;  // the same, for the template
  std::string parameters;       // the JSON Schema of its arguments: of an object
  bool strict = false;          // arguments must follow the schema
};

enum class ToolChoice : uint8_t { kNone, kAuto, kRequired, kNamed };

struct ApiPrompt {
  std::string text;
  std::vector<TokenId> ids;  // instead of text, if not empty
};

struct ApiRequest {
  Endpoint endpoint = Endpoint::kChat;
  size_t body_bytes = 0;
  std::string model;
  std::vector<ApiMessage> messages;  // kChat, kResponses: at least one
  std::string instructions;          // kResponses: the first message, if not empty
  // Of a chat: how its prompt is made of it, and what else the template may read.
  bool add_generation_prompt = true;
  bool continue_final_message = false;
  text::JinjaValue documents;  // a list of maps of strings; undefined: none
  text::JinjaValue::Map template_kwargs;
  std::vector<ApiTool> tools;
  std::vector<std::string> tool_names;       // of tools, in their order
  std::optional<ToolChoice> tool_choice;     // as parsed: there is one
  std::string tools_json, tool_choice_json;  // kResponses: as sent; empty: not
  std::string called_tool;                   // kNamed: of tool_names
  bool parallel_tool_calls = true;           // false: one call at most
  bool include_reasoning = true;
  std::string reasoning_effort;    // empty: not said
  std::vector<ApiPrompt> prompts;  // kCompletions, kEmbeddings: at least one; kDetokenize: one
  bool stream = false;
  bool include_usage = false, continuous_usage = false;
  std::vector<std::string> stop;
  std::optional<uint64_t> seed;
  // Absent: the model's defaults, where it has some.
  std::optional<float> temperature;             // [0, 2]
  std::optional<float> top_p;                   // (0, 1]
  std::optional<float> min_p;                   // [0, 1)
  int32_t top_k = kAbsentTopK;                  // -1, 0: off
  std::optional<float> repetition_penalty;      // [0.01, 100]
  std::optional<float> presence_penalty;        // [-2, 2]
  std::optional<float> frequency_penalty;       // [-2, 2]
  const char* max_tokens_param = "max_tokens";  // what the request calls it
  std::optional<int32_t> max_tokens;  // >= 1; absent: the model's, or what the context leaves
  int32_t min_tokens = 0;
  int32_t n = 1;                    // choices of each prompt
  int32_t best_of = 0;              // sequences they are chosen from; as parsed: at least n
  bool logprobs = false;            // of each token,
  int32_t top_logprobs = 0;         // and of as many of the most likely
  bool token_ids_for_text = false;  // logprobs name tokens "token_id:N"
  bool return_token_ids = false;
  std::vector<TokenId> stop_token_ids;
  bool ignore_eos = false;
  bool include_stop = false;  // what stopped it is part of the text
  bool skip_special_tokens = true;
  std::vector<std::pair<TokenId, float>> logit_bias;  // [-100, 100]; by id
  grammar::GrammarSpec grammar;                       // of the reply's text
  std::string grammar_param;                          // the field that said so
  std::string text_format;                            // kResponses: it, as JSON; or empty
  bool echo = false;                                  // kCompletions
  std::optional<bool> add_special_tokens;             // absent: to text that is no chat
  bool return_token_strs = false;                     // kTokenize
  int32_t truncate_prompt_tokens = 0;                 // keep so many; 0: all; see below
  bool truncate_end = false;                          // the first are kept, not the last
  bool base64 = false;                                // kEmbeddings: the bytes of the floats
  std::optional<bool> normalize;                      // kEmbeddings: to length 1; absent: yes
  int32_t dimensions = 0;                             // kEmbeddings; 0: as many as there are
  std::optional<int32_t> priority;                    // vLLM's: lower goes first
  std::string cache_salt;                             // prompts share KV under equal ones only
  std::string service_tier;                           // as asked for; empty: not
  std::string user;                                   // appears in the log
  std::string metadata;                               // too: a JSON object of strings, or empty

  // Its replies are calls of tools.
  bool must_call() const {
    return tool_choice == ToolChoice::kRequired || tool_choice == ToolChoice::kNamed;
  }
  bool has_strict_tools() const;
  bool is_chat() const { return !messages.empty(); }
  bool embeds() const { return endpoint == Endpoint::kEmbeddings; }
  size_t num_prompts() const { return is_chat() ? 1 : prompts.size(); }
  // How long it takes to make tokens of all prompts, and to read the grammar, in bytes of text.
  size_t num_text_bytes() const;
  // Whether replies need more of tokens than their text.
  bool wants_tokens() const { return logprobs || return_token_ids || continuous_usage; }
};

// Fills `out`, or says what is wrong.
std::optional<ApiError> ParseRequest(Endpoint endpoint, std::string_view body, ApiRequest& out);

}  // namespace tandem::http
