#include "router/http/token_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string_view>
#include <vector>

#include "common/tokenizer/utf8.h"
#include "router/http/json_text.h"

namespace tandem::http {
namespace {

constexpr float kNoChance = -9999;  // JSON has no infinity

void AppendLogprob(std::string& out, float logprob) {
  fmt::format_to(std::back_inserter(out), "{}", std::isfinite(logprob) ? logprob : kNoChance);
}

// "token":...,"logprob":...,"bytes":[...]
void AppendToken(std::string& out, const TokenTextOptions& options, TokenId id, float logprob) {
  out += "\"token\":";
  AppendJsonString(out, TokenName(options, id));
  out += ",\"logprob\":";
  AppendLogprob(out, logprob);
  out += ",\"bytes\":[";
  const std::string_view bytes = options.tokenizer->TokenText(id);
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i > 0) out += ',';
    fmt::format_to(std::back_inserter(out), "{}", static_cast<unsigned char>(bytes[i]));
  }
  out += ']';
}

size_t NumCodePoints(std::string_view bytes) {
  return static_cast<size_t>(std::count_if(bytes.begin(), bytes.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

// Of the most likely, and of the sampled one if it is not among them. Names may be equal where
// tokens are not: the most likely has it.
void AppendTop(std::string& out, const TokenTextOptions& options, TokenId token,
               const routing::TokenLogprob& logprob) {
  std::vector<std::string> names;
  out += '{';
  const auto add = [&](TokenId id, float value) {
    std::string name = TokenName(options, id);
    if (std::find(names.begin(), names.end(), name) != names.end()) return;
    if (!names.empty()) out += ',';
    AppendJsonString(out, name);
    out += ':';
    AppendLogprob(out, value);
    names.push_back(std::move(name));
  };
  for (const routing::TopLogprob& top : logprob.top) add(top.token, top.logprob);
  add(token, logprob.logprob);
  out += '}';
}

// A JSON array of what `append(i)` appends.
template <class F>
void AppendArray(std::string& out, size_t size, F&& append) {
  out += '[';
  for (size_t i = 0; i < size; ++i) {
    if (i > 0) out += ',';
    append(i);
  }
  out += ']';
}

}  // namespace

std::string TokenName(const TokenTextOptions& options, TokenId id) {
  if (options.ids_for_text) return fmt::format("token_id:{}", id);
  std::string name;
  text::Utf8Stream stream;
  stream.Push(options.tokenizer->TokenText(id), name);
  stream.Finish(name);
  return name;
}

void AppendChatLogprobs(std::string& out, const TokenTextOptions& options,
                        std::span<const TokenId> tokens,
                        std::span<const routing::TokenLogprob> logprobs) {
  out += "{\"content\":";
  AppendArray(out, logprobs.size(), [&](size_t i) {
    out += '{';
    AppendToken(out, options, tokens[i], logprobs[i].logprob);
    out += ",\"top_logprobs\":";
    AppendArray(out, logprobs[i].top.size(), [&](size_t j) {
      const routing::TopLogprob& top = logprobs[i].top[j];
      out += '{';
      AppendToken(out, options, top.token, top.logprob);
      out += '}';
    });
    out += '}';
  });
  out += ",\"refusal\":null}";
}

void AppendCompletionLogprobs(std::string& out, const TokenTextOptions& options,
                              std::span<const TokenId> tokens,
                              std::span<const routing::TokenLogprob> logprobs, size_t& offset) {
  const size_t size = logprobs.size();
  out += "{\"text_offset\":";
  AppendArray(out, size, [&](size_t i) {
    fmt::format_to(std::back_inserter(out), "{}", offset);
    if (!options.with_special && options.tokenizer->IsControl(tokens[i])) return;
    offset += NumCodePoints(options.tokenizer->TokenText(tokens[i]));
  });
  out += ",\"token_logprobs\":";
  AppendArray(out, size, [&](size_t i) { AppendLogprob(out, logprobs[i].logprob); });
  out += ",\"tokens\":";
  AppendArray(out, size, [&](size_t i) { AppendJsonString(out, TokenName(options, tokens[i])); });
  out += ",\"top_logprobs\":";
  AppendArray(out, size, [&](size_t i) { AppendTop(out, options, tokens[i], logprobs[i]); });
  out += '}';
}

void AppendIds(std::string& out, std::span<const TokenId> ids) {
  AppendArray(out, ids.size(),
              [&](size_t i) { fmt::format_to(std::back_inserter(out), "{}", ids[i]); });
}

}  // namespace tandem::http
