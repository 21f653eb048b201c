// TokenMasks against the definition: a token may come next if its bytes lead somewhere, tried one
// by one.
#include "worker/grammar/token_masks.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "common/grammar/grammar.h"
#include "tests/worker/grammar/byte_vocabulary.h"
#include "worker/grammar/node_classes.h"

namespace tandem::grammar {
namespace {

using Kind = GrammarSpec::Kind;

TEST(TokenMasks, GoOnWhenStatesAreForgotten) {
  StatusOr<Automaton> automaton = CompileGrammar({Kind::kJsonObject, ""});
  ASSERT_TRUE(automaton.ok());
  constexpr int kStates = 2000;
  TokenMasks masks(Bytes(), *std::move(automaton), kStates);
  const auto read = [&](StateId state, std::string_view text) {
    for (const char c : text) {
      const StateId next = masks.Advance(state, static_cast<uint8_t>(c));
      EXPECT_NE(next, TokenMasks::kDead) << text;
      masks.Release(state);
      state = next;
    }
    return state;
  };
  // One that waits deep within lists while another meets more states than are kept.
  StateId waiting = read(masks.Start(), R"({"a":[[[{"b":)");
  const int before = masks.num_states();
  StateId busy = read(masks.Start(), R"({"a":)");
  int most = 0;
  for (int i = 0; masks.num_states() >= most; ++i) {
    ASSERT_LT(i, kStates);
    most = masks.num_states();
    busy = read(busy, i % 2 == 0 ? "[" : "{\"k\":");
  }
  EXPECT_GE(most, kStates - 10);
  EXPECT_LE(masks.num_states(), before + 20);
  waiting = read(waiting, R"(2}]]]})");
  EXPECT_TRUE(masks.CanEnd(waiting));
  EXPECT_FALSE(masks.CanEnd(busy));
  masks.Release(waiting);
  masks.Release(busy);
}

TEST(NodeClasses, ARepetitionIsTheSameButForItsEnd) {
  StatusOr<Automaton> automaton =
      CompileGrammar({Kind::kEbnf, "root ::= a \"y\" a\na ::= [ab]{3,5000}"});
  ASSERT_TRUE(automaton.ok());
  const auto count = [&](int depth) {
    const std::vector<int32_t> classes =
        NodeClasses(automaton->nodes, LeavingNodes(*automaton), depth);
    return std::set<int32_t>(classes.begin(), classes.end()).size();
  };
  EXPECT_GE(count(10), 4998u) << "the rule may end behind each that is not of the first three";
  for (const char* regex : {"x[ab]{3,500}", "x[ab]{3,500}y"}) {
    automaton = CompileGrammar({Kind::kRegex, regex});
    ASSERT_TRUE(automaton.ok());
    EXPECT_LT(count(10), 20u) << regex;
    EXPECT_GT(count(20), count(10)) << regex;
    EXPECT_GE(count(1000), 500u) << regex;
  }
}

// A vocabulary of random pieces of what grammars match, so that tokens cross rules in all ways.
std::vector<std::string> RandomTokens(std::mt19937_64& random, const std::string& alphabet) {
  std::set<std::string> tokens;
  for (const char c : alphabet) tokens.insert(std::string(1, c));
  while (tokens.size() < 400) {
    std::string token;
    const size_t size = random() % 12 == 0 ? 15 + random() % 30 : 1 + random() % 6;
    for (size_t n = size; n > 0; --n) token += alphabet[random() % alphabet.size()];
    tokens.insert(token);
  }
  return {tokens.begin(), tokens.end()};
}

TEST(TokenMasks, AllowExactlyTheTokensThatLeadSomewhere) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  const std::pair<GrammarSpec, std::string> cases[] = {
      {{Kind::kJsonObject, ""}, "{}[]:,\"\\ \nab1.-"},
      {{Kind::kJsonSchema,
        R"({"properties":{"a":{"type":"string"},"b":{"type":"array","items":{"type":"integer"}},
            "ab":{"enum":["a","b",1]}},"required":["b"],"additionalProperties":true})"},
       "{}[]:,\" ab1"},
      {{Kind::kEbnf,
        "root ::= \"a\" root \"b\" | x\nx ::= \"c\" [ab]? y*\ny ::= \"1\" root? \"2\""},
       "abc12"},
      {{Kind::kEbnf, "root ::= w (\" \" w)* | \"(\" root \")\" root?\nw ::= [ab]+ | \"1\" w"},
       "ab1 ()"},
      {{Kind::kEbnf, "root ::= x \"c\"\nx ::= \"a\" y?\ny ::= \"b\" x | \"1\" y \"2\""}, "abc12"},
      {{Kind::kRegex, "(a|ab|b1)*(1{2,5}a)?"}, "ab1"},
      {{Kind::kRegex, "([ab]{0,70}1){1,2}"}, "ab1"},
      {{Kind::kRegex, "a{1,20}b.{0,40}"}, "ab1"},
      {{Kind::kJsonSchema, R"({"type":"array","items":{"type":"string","maxLength":50}})"},
       "[],\" ab\\u00"},
  };
  for (const auto& [spec, alphabet] : cases) {
    std::vector<std::string> tokens = RandomTokens(random, alphabet);
    tokens.push_back("");  // a control token
    const auto vocabulary = MakeVocabulary(tokens);
    StatusOr<Automaton> automaton = CompileGrammar(spec);
    ASSERT_TRUE(automaton.ok());
    TokenMasks masks(vocabulary, *automaton);
    TokenMasks bytes(Bytes(), *automaton);
    for (int reply = 0; reply < 20; ++reply) {
      StateId state = masks.Start();
      StateId same = bytes.Start();
      std::string text;
      for (int length = 0; length < 12; ++length) {
        std::vector<uint32_t> mask((tokens.size() + 31) / 32, 0xffffffff);
        masks.Fill(state, mask);
        ASSERT_EQ(masks.CanEnd(state), bytes.CanEnd(same));
        std::vector<TokenId> allowed;
        for (size_t token = 0; token < tokens.size(); ++token) {
          StateId at = same;
          for (const char c : tokens[token]) {
            at = at == TokenMasks::kDead ? at : bytes.Advance(at, static_cast<uint8_t>(c));
          }
          const bool leads = at != TokenMasks::kDead && !tokens[token].empty();
          ASSERT_EQ((mask[token / 32] >> (token % 32) & 1) != 0, leads)
              << '"' << tokens[token] << "\" behind \"" << text << '"';
          if (leads) allowed.push_back(static_cast<TokenId>(token));
        }
        if (allowed.empty()) {
          ASSERT_TRUE(masks.CanEnd(state));
          break;
        }
        const TokenId chosen = allowed[random() % allowed.size()];
        const StateId next = masks.Advance(state, chosen);
        ASSERT_NE(next, TokenMasks::kDead);
        masks.Release(state);
        state = next;
        text += tokens[chosen];
        for (const char c : tokens[chosen]) same = bytes.Advance(same, static_cast<uint8_t>(c));
      }
      masks.Release(state);
    }
  }
}

// As a leader does: a thread prepares while the first reply is under way.
TEST(TokenMasks, ArePreparedWhileTheyAreUsed) {
  std::mt19937_64 random(7);
  const std::string alphabet = "{}[]:,\" ab1";
  const auto vocabulary = MakeVocabulary(RandomTokens(random, alphabet));
  StatusOr<Automaton> automaton =
      CompileGrammar({Kind::kJsonSchema,
                      R"({"type":"array","items":{"type":"object","properties":{
           "a":{"type":"string","maxLength":40},"b":{"type":"integer"}}}})"});
  ASSERT_TRUE(automaton.ok());
  const auto replies = [&](TokenMasks& masks) {
    std::mt19937_64 choices(8);
    std::vector<std::vector<uint32_t>> seen;
    for (int reply = 0; reply < 10; ++reply) {
      StateId state = masks.Start();
      for (int length = 0; length < 30; ++length) {
        std::vector<uint32_t> mask((vocabulary->bytes.size() + 31) / 32);
        masks.Fill(state, mask);
        std::vector<TokenId> allowed;
        for (TokenId token = 0; token < vocabulary->size; ++token) {
          if ((mask[token / 32] >> (token % 32) & 1) != 0) allowed.push_back(token);
        }
        seen.push_back(std::move(mask));
        if (allowed.empty()) break;
        const StateId next = masks.Advance(state, allowed[choices() % allowed.size()]);
        masks.Release(state);
        state = next;
      }
      masks.Release(state);
    }
    return seen;
  };
  TokenMasks alone(vocabulary, *automaton), beside(vocabulary, *automaton);
  std::thread preparing([&] {
    while (beside.Prepare(200)) {
    }
  });
  const auto together = replies(beside);
  preparing.join();
  EXPECT_EQ(together, replies(alone));
  EXPECT_FALSE(beside.Prepare(1)) << "nothing is left";
}

// Grammars that write text as many times one character: their usual form, with a vocabulary of the
// usual size.
TEST(TokenMasks, ACharacterMayBeARule) {
  const std::vector<std::string> bytes = ManyTokens();
  const auto vocabulary = MakeVocabulary(bytes);
  std::vector<uint32_t> mask((bytes.size() + 31) / 32);
  for (const char* grammar : {
           "root ::= \"\\\"\" char* \"\\\"\"\n"
           "char ::= [^\"\\\\\\x7F\\x00-\\x1F] | [\\\\] ([\"\\\\bfnrt] | \"u\" [0-9a-fA-F]{4})",
           "root ::= \"\\\"\" line (\"\\n\" line)* \"\\\"\"\nline ::= char{0,200}\nchar ::= "
           "[^\\n\"]",
           "root ::= \"\\\"\" (letter | mark)* \"\\\"\"\nletter ::= [a-zA-Z\\u00c0-\\uffff]\n"
           "mark ::= [^a-zA-Z\\u00c0-\\uffff\"]",
       }) {
    auto automaton = CompileGrammar({Kind::kEbnf, grammar});
    ASSERT_TRUE(automaton.ok()) << automaton.status() << "\n" << grammar;
    TokenMasks masks(vocabulary, *std::move(automaton));
    StateId state = masks.Start();
    for (const char c : std::string_view("\"ab c, <\xc3\xa9")) {
      state = masks.Advance(state, static_cast<uint8_t>(c));
      ASSERT_NE(state, TokenMasks::kDead) << c << " in\n" << grammar;
      EXPECT_EQ(masks.Fill(state, mask), TokenMasks::Filled::kTokens) << c << " in\n" << grammar;
    }
  }
}

// A grammar that can be in ever more places at once, or whose nodes all lead out of their rules,
// may cost a step loop milliseconds at most.
TEST(TokenMasks, AmbiguityHasAnEnd) {
  std::string many = "root ::= \"a\" (";
  for (int i = 0; i < 4200; ++i) many += (i > 0 ? "|r" : "r") + std::to_string(i);
  many += ")\n";
  for (int i = 0; i < 4200; ++i) {
    const std::string n = std::to_string(i);
    many += "r" + n + " ::= \"b\" r" + n + " \"c\" | \"d" + n + "\"\n";
  }
  std::mt19937_64 random(3);
  const auto vocabulary = MakeVocabulary(RandomTokens(random, "abcd012 "));
  for (const std::string& text :
       {many, std::string("root ::= s\ns ::= [^0] s \"b\" | [^0] s s | [^0]"),
        std::string("root ::= s\ns ::= [^0] s1 \"b\" | [^0] s2 \"c\" | [^0]\n"
                    "s1 ::= s | \"1\" s \"1\"\ns2 ::= s | \"2\" s \"2\""),
        std::string("root ::= ([^0] t?){300}\nt ::= \"0\" t \"1\" | \"2\"")}) {
    StatusOr<Automaton> automaton = CompileGrammar({Kind::kEbnf, text});
    ASSERT_TRUE(automaton.ok()) << automaton.status();
    TokenMasks masks(vocabulary, *std::move(automaton));
    StateId state = masks.Start();
    std::vector<uint32_t> mask((vocabulary->bytes.size() + 31) / 32);
    for (int length = 0; length < 200 && state != TokenMasks::kDead; ++length) {
      const TokenMasks::Filled filled = masks.Fill(state, mask);
      if (filled != TokenMasks::Filled::kTokens) break;
      std::vector<TokenId> allowed;
      for (TokenId token = 0; token < vocabulary->size; ++token) {
        if ((mask[token / 32] >> (token % 32) & 1) != 0) allowed.push_back(token);
      }
      ASSERT_FALSE(allowed.empty());
      state = masks.Advance(state, allowed[random() % allowed.size()]);
    }
    EXPECT_LT(masks.num_states(), 2 * TokenMasks::kMaxStates);
  }
}

// Text in which words, lines or marked parts are rules, over a vocabulary as large as models have:
// nearly all of it may follow a space. Thinking before a reply is such a grammar
// (http/reply_grammar).
TEST(TokenMasks, RulesOfTextAreNoWork) {
  std::mt19937_64 random(5);
  std::set<std::string> words;
  for (int i = 0; i < 128; ++i) words.insert(std::string(1, static_cast<char>(i)));
  while (words.size() < 200'000) {
    std::string word(random() % 2, ' ');
    for (size_t n = 2 + random() % 6; n > 0; --n) word += static_cast<char>('a' + random() % 26);
    words.insert(random() % 50 == 0 ? "(" + word : random() % 50 == 0 ? word + "<" : word);
  }
  const auto vocabulary = MakeVocabulary({words.begin(), words.end()});
  for (const char* text : {
           "root ::= word (\" \" word)*\nword ::= [a-zA-Z]+",
           "root ::= word (\" \" root)?\nword ::= [a-zA-Z]+",
           "root ::= sentence+\nsentence ::= word (\" \" word)* [.?] \" \"\nword ::= [a-z']+ | "
           "[0-9]+",
           "root ::= item+\nitem ::= \"- \" text \"\\n\"\ntext ::= [^\\n]+",
           "root ::= (plain | bold)+\nplain ::= [^*]+\nbold ::= \"**\" plain \"**\"",
           "root ::= list\nlist ::= \"(\" item (\" \" item)* \")\"\nitem ::= [a-z0-9]+ | list",
           "root ::= t (\" \" [+*] \" \" t)*\nt ::= [a-z]+ | \"(\" root \")\"",
           "root ::= off anew \"/t>\"\noff ::= ([^<] | anew not)*\nanew ::= \"<\" (some \"<\")*\n"
           "some ::= \"\" | \"/\" | \"/t\"\nnot ::= [^</] | \"/\" [^<t] | \"/t\" [^<>]\n",
       }) {
    StatusOr<Automaton> automaton = CompileGrammar({Kind::kEbnf, text});
    ASSERT_TRUE(automaton.ok()) << automaton.status();
    TokenMasks masks(vocabulary, *std::move(automaton));
    StateId state = masks.Start();
    std::vector<uint32_t> mask((vocabulary->bytes.size() + 31) / 32);
    for (int length = 0; length < 50; ++length) {
      const TokenMasks::Filled filled = masks.Fill(state, mask);
      if (filled == TokenMasks::Filled::kNothing) break;
      ASSERT_EQ(filled, TokenMasks::Filled::kTokens) << text << ", token " << length;
      std::vector<TokenId> allowed;
      for (TokenId token = 0; token < vocabulary->size; ++token) {
        if ((mask[token / 32] >> (token % 32) & 1) != 0) allowed.push_back(token);
      }
      const StateId next = masks.Advance(state, allowed[random() % allowed.size()]);
      ASSERT_NE(next, TokenMasks::kDead) << text << ", token " << length;
      masks.Release(state);
      state = next;
    }
  }
}

TEST(TokenMasks, WalksAreMadeByWhoeverIsAsked) {
  const auto vocabulary = MakeVocabulary({"a", "ab", "b", ""});
  StatusOr<Automaton> automaton = CompileGrammar({Kind::kRegex, "a+b"});
  ASSERT_TRUE(automaton.ok());
  TokenMasks masks(vocabulary, *std::move(automaton));
  const StateId start = masks.Start();
  std::vector<uint32_t> mask(1);
  EXPECT_EQ(masks.Fill(start, mask, /*walk=*/false), TokenMasks::Filled::kPending);
  masks.PrepareNodes(masks.NodesOf(start));
  EXPECT_EQ(masks.Fill(start, mask, /*walk=*/false), TokenMasks::Filled::kTokens);
  EXPECT_EQ(mask[0], 3u);
  const StateId end = masks.Advance(start, 1);
  ASSERT_NE(end, TokenMasks::kDead);
  EXPECT_EQ(masks.Fill(end, mask), TokenMasks::Filled::kNothing);
  EXPECT_TRUE(masks.CanEnd(end));
}

}  // namespace
}  // namespace tandem::grammar
