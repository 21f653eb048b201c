// What structured output costs a token: compile time of a schema with 100 fields, and time of one
// mask (where the grammar is, which tokens may come) along random replies, over the vocabulary of a
// GGUF file (llama.cpp's repository has some without weights: models/ggml-vocab-llama-bpe.gguf);
// or, of another file, over 131,072 random pieces of its text, which is harder: more of them fit.
//
//   tandem-bench-grammar FILE [SEED]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/gguf/gguf_file.h"
#include "common/grammar/grammar.h"
#include "common/tokenizer/tokenizer.h"
#include "worker/grammar/token_masks.h"

namespace {

using tandem::grammar::Automaton;
using tandem::grammar::GrammarSpec;
using tandem::grammar::StateId;
using tandem::grammar::TokenMasks;

constexpr size_t kPieces = 131072;

// CPU time of this thread: other work on the machine does not count.
double Now() {
  timespec now = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

// All bytes, JSON's own pairs, and pieces of `text` of 2 to 12 bytes that begin at words or within.
std::vector<std::string> MakeTokens(const std::string& text, std::mt19937_64& random) {
  std::set<std::string> tokens;
  for (int i = 0; i < 256; ++i) tokens.insert(std::string(1, static_cast<char>(i)));
  for (const char* a :
       {"\"", "\",", "\":", "{\"", "[\"", "\"}", "\"]", ",\"", " \"", "\": \"", "\",\n"}) {
    tokens.insert(a);
    for (int i = 0; i < 200; ++i) {
      tokens.insert(a + text.substr(random() % (text.size() - 16), 1 + random() % 4));
    }
  }
  while (tokens.size() < kPieces) {
    const size_t begin = random() % (text.size() - 16);
    tokens.insert(text.substr(begin, 2 + random() % 11));
  }
  return {tokens.begin(), tokens.end()};
}

std::string Schema(int fields) {
  std::string properties, required;
  const char* kinds[] = {R"({"type":"string"})",
                         R"({"type":"integer"})",
                         R"({"type":"number"})",
                         R"({"type":"boolean"})",
                         R"({"type":"array","items":{"type":"string"}})",
                         R"({"enum":["low","medium","high"]})",
                         R"({"anyOf":[{"type":"string"},{"type":"null"}]})"};
  for (int i = 0; i < fields; ++i) {
    const std::string name = "\"field_" + std::to_string(i) + "\"";
    properties += (i > 0 ? "," : "") + name + ":" + kinds[i % 7];
    if (i % 3 != 0) required += (required.empty() ? "" : ",") + name;
  }
  return R"({"type":"object","additionalProperties":false,"properties":{)" + properties +
         R"(},"required":[)" + required + "]}";
}

[[noreturn]] void Die(std::string_view why) {
  std::cerr << why << "\n";
  std::exit(1);
}

struct Times {
  std::vector<double> us;
  double At(double q) {
    std::sort(us.begin(), us.end());
    return us[std::min(us.size() - 1, static_cast<size_t>(q * us.size()))];
  }
};

void Run(const char* name, const GrammarSpec& spec,
         const std::shared_ptr<const tandem::grammar::Vocabulary>& vocabulary,
         std::mt19937_64& random) {
  Times compile, prepare, fill, first_reply;
  for (int round = 0; round < 3; ++round) {
    const auto begin = Now();
    tandem::StatusOr<Automaton> automaton = CompileGrammar(spec);
    if (!automaton.ok()) Die(tandem::Message(automaton.status()));
    const auto compiled = Now();
    TokenMasks masks(vocabulary, *std::move(automaton));
    masks.Prepare(20'000'000);
    compile.us.push_back((compiled - begin));
    prepare.us.push_back((Now() - compiled));
    const auto num_tokens = static_cast<size_t>(vocabulary->size);
    std::vector<uint32_t> mask((num_tokens + 31) / 32);
    for (int reply = 0; reply < 6; ++reply) {
      StateId state = masks.Start();
      for (int length = 0; length < 300; ++length) {
        const auto start = Now();
        masks.Fill(state, mask);
        const auto filled = Now();
        std::vector<int> allowed;
        for (size_t t = 0; t < num_tokens; ++t) {
          if (mask[t / 32] >> (t % 32) & 1) allowed.push_back(static_cast<int>(t));
        }
        if (allowed.empty()) break;
        // A string is left one time in four: otherwise replies would be one string.
        int chosen = allowed[random() % allowed.size()];
        for (int i = 0; i < 3 && vocabulary->bytes[chosen].find('"') == std::string::npos; ++i) {
          chosen = allowed[random() % allowed.size()];
        }
        const auto before = Now();
        const StateId next = masks.Advance(state, chosen);
        const double us = filled - start + Now() - before;
        (reply == 0 ? first_reply : fill).us.push_back(us);
        if (next == TokenMasks::kDead) Die("an allowed token leads nowhere");
        masks.Release(state);
        state = next;
      }
      masks.Release(state);
    }
  }
  std::printf(
      "%-14s compile %7.0f us, prepare %7.0f us; a token, us: first reply p50 %5.1f p99 %6.1f max "
      "%7.1f; "
      "later p50 %5.1f p99 %6.1f max %7.1f (%zu tokens)\n",
      name, compile.At(0.5), prepare.At(0.5), first_reply.At(0.5), first_reply.At(0.99),
      first_reply.At(1), fill.At(0.5), fill.At(0.99), fill.At(1), fill.us.size());
}

std::vector<std::string> ReadTokens(const std::string& path, std::mt19937_64& random) {
  std::ifstream stream(path);
  const std::string text(std::istreambuf_iterator<char>(stream), {});
  if (!text.starts_with("GGUF")) {
    if (text.size() < 100'000) Die(path + ": a text of 100 kB at least");
    return MakeTokens(text, random);
  }
  const auto file = tandem::gguf::File::Open(path);
  if (!file.ok()) Die(tandem::Message(file.status()));
  const auto tokenizer = tandem::text::Tokenizer::FromGguf(**file);
  if (!tokenizer.ok()) Die(tandem::Message(tokenizer.status()));
  std::vector<std::string> tokens(static_cast<size_t>((*tokenizer)->vocab_size()));
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto id = static_cast<tandem::TokenId>(i);
    if (!(*tokenizer)->IsControl(id)) tokens[i] = (*tokenizer)->TokenText(id);
  }
  return tokens;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) Die("usage: tandem-bench-grammar FILE [SEED]");
  std::mt19937_64 random(argc > 2 ? std::stoull(argv[2]) : 1);
  const auto vocabulary = tandem::grammar::MakeVocabulary(ReadTokens(argv[1], random));
  using Kind = GrammarSpec::Kind;
  std::printf("%d tokens\n", vocabulary->size);
  Run("json_object", {Kind::kJsonObject, ""}, vocabulary, random);
  Run("100 fields", {Kind::kJsonSchema, Schema(100)}, vocabulary, random);
  Run("long strings",
      {Kind::kJsonSchema, R"({"type":"object","required":["a","b"],"properties":{)"
                          R"("a":{"type":"string","minLength":100,"maxLength":2000},)"
                          R"("b":{"type":"string","pattern":"^[a-z ]{50,900}$"}}})"},
      vocabulary, random);
  Run("regex", {Kind::kRegex, "(\\w+ ){3,20}[0-9]{4}-[0-9]{2}"}, vocabulary, random);
  Run("ebnf",
      {Kind::kEbnf,
       "root ::= stmt+\nstmt ::= name \" = \" expr \"\\n\"\nname ::= [a-z]+\n"
       "expr ::= term (\" + \" term)*\nterm ::= name | [0-9]+ | \"(\" expr \")\"\n"},
      vocabulary, random);
}
