// tandem-bench-text TOKENIZER TEXT [ROUNDS]: encodes the file TEXT, ROUNDS times (default 20), with
// the tokenizer of a GGUF file or a Hugging Face folder, on one thread. Prints one line of JSON:
// tokens, a hash of them (XXH3-128 of the ids as 32 bits each, low half), microseconds a round, and
// those where the text has come before (text/encode_cache; none if it is shorter than that keeps).
// bench/peers/tokenizers compares it with Hugging Face's library.
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/gguf/gguf_file.h"
#include "common/hash.h"
#include "common/tokenizer/tokenizer.h"

namespace tandem {
namespace {

StatusOr<std::unique_ptr<const text::Tokenizer>> Load(const std::string& path) {
  if (std::filesystem::is_directory(path)) return text::Tokenizer::FromFolder(path);
  TANDEM_ASSIGN_OR_RETURN(const auto file, gguf::File::Open(path));
  return text::Tokenizer::FromGguf(*file);
}

int Run(const std::string& tokenizer_path, const std::string& text_path, int rounds) {
  const Nanos before = MonotonicNow();
  const auto tokenizer = Load(tokenizer_path);
  if (!tokenizer.ok()) {
    fmt::print(stderr, "{}\n", Message(tokenizer.status()));
    return 2;
  }
  const Nanos load = MonotonicNow() - before;
  std::ostringstream text;
  text << std::ifstream(text_path, std::ios::binary).rdbuf();
  const std::string bytes = text.str();
  std::vector<TokenId> ids = (*tokenizer)->Encode(bytes);
  const uint64_t hash =
      HashBytes({reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(TokenId)}).low;
  text::EncodeCache cache(int64_t{1} << 30);
  text::Tokenizer::Known known = {&cache, {}};
  (*tokenizer)->Encode(bytes, true, &known);
  std::string times, known_times;
  for (int round = 0; round < rounds; ++round) {
    const char* const comma = round == 0 ? "" : ", ";
    Nanos start = ThreadCpuTime();
    ids = (*tokenizer)->Encode(bytes);
    times += fmt::format("{}{}", comma, (ThreadCpuTime() - start) / 1000);
    start = ThreadCpuTime();
    ids = (*tokenizer)->Encode(bytes, true, &known);
    known_times += fmt::format("{}{}", comma, (ThreadCpuTime() - start) / 1000);
  }
  fmt::print(
      R"({{"bytes": {}, "tokens": {}, "hash": "{:016x}", "load_us": {}, "us": [{}], "known_us": [{}]}})"
      "\n",
      bytes.size(), ids.size(), hash, load / 1000, times, known_times);
  return 0;
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) {
    fmt::print(stderr, "usage: {} TOKENIZER TEXT [ROUNDS]\n", argv[0]);
    return 2;
  }
  return tandem::Run(argv[1], argv[2], argc == 4 ? std::atoi(argv[3]) : 20);
}
