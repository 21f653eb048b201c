#include "bench/engine/cases.h"

#include <charconv>
#include <random>

#include "common/clock.h"

namespace tandem::bench {
namespace {

constexpr int kDecodePrompt = 32;
constexpr int kDecodeTokens = 64;

engine::Generate Request(int index, int prompt_tokens, int max_tokens, std::mt19937& rng,
                         int vocab) {
  engine::Generate request;
  request.key.request = index;
  request.max_tokens = max_tokens;
  for (int i = 0; i < prompt_tokens; ++i) {
    request.prompt.push_back(static_cast<TokenId>(rng() % vocab));
  }
  return request;
}

// Takes the outputs; an error if a sequence failed.
StatusOr<int64_t> CountTokens(engine::Engine& engine, std::vector<engine::Output>& outputs) {
  engine.TakeOutputs(outputs);
  int64_t tokens = 0;
  for (const engine::Output& output : outputs) {
    if (output.finish == engine::FinishReason::kError) return Internal("{}", output.error);
    tokens += static_cast<int64_t>(output.tokens.size());
  }
  return tokens;
}

}  // namespace

std::string Case::name() const {
  return fmt::format(fmt::runtime(kind == Kind::kPrefill ? "prefill_{}" : "decode_b{}"), size);
}

StatusOr<Case> ParseCase(const std::string& text) {
  Case which;
  const size_t colon = text.find(':');
  const std::string kind = text.substr(0, colon);
  if (colon == std::string::npos || (kind != "prefill" && kind != "decode")) {
    return InvalidArgument("case \"{}\" is not known; known: prefill:TOKENS, decode:SEQUENCES",
                           text);
  }
  which.kind = kind == "prefill" ? Case::Kind::kPrefill : Case::Kind::kDecode;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data() + colon + 1, end, which.size);
  if (parsed.ec != std::errc() || parsed.ptr != end || which.size < 1) {
    return InvalidArgument("case \"{}\": the size must be a positive number", text);
  }
  return which;
}

StatusOr<double> RunCase(BenchGroup& group, const Case& which, unsigned seed) {
  engine::Engine& engine = group.engine();
  engine.ClearCache();
  std::mt19937 rng(seed);
  const bool prefill = which.kind == Case::Kind::kPrefill;
  const int sequences = prefill ? 1 : which.size;
  const int prompt = prefill ? which.size : kDecodePrompt;
  const int max_tokens = prefill ? 1 : kDecodeTokens;
  Nanos last = MonotonicNow();
  const Nanos start = last;
  for (int i = 0; i < sequences; ++i) {
    engine.Handle(Request(i, prompt, max_tokens, rng, group.info().vocab_size), last);
  }
  std::vector<engine::Output> outputs;
  TANDEM_ASSIGN_OR_RETURN(int64_t tokens, CountTokens(engine, outputs));
  int64_t decoded = 0;
  Nanos decode_time = 0;
  for (;;) {
    TANDEM_ASSIGN_OR_RETURN(const bool stepped, group.Step());
    if (!stepped) break;
    TANDEM_ASSIGN_OR_RETURN(const int64_t new_tokens, CountTokens(engine, outputs));
    tokens += new_tokens;
    const Nanos now = MonotonicNow();
    if (engine.last_step().num_decodes == sequences) {
      decoded += new_tokens;
      decode_time += now - last;
    }
    last = now;
  }
  if (tokens != int64_t{sequences} * max_tokens) {
    return Internal("{}: {} tokens came, expected {}", which.name(), tokens,
                    int64_t{sequences} * max_tokens);
  }
  const double seconds = static_cast<double>(prefill ? last - start : decode_time) / kSecond;
  return static_cast<double>(prefill ? prompt : decoded) / seconds;
}

}  // namespace tandem::bench
