// TokenMasks against the definition: a token may come next if its bytes lead somewhere, tried one
// by one; and what grammars match against texts that they should and should not.
#include "worker/grammar/token_masks.h"
#include "worker/grammar/node_classes.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <fstream>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "common/grammar/grammar.h"

namespace tandem::grammar {
namespace {

using Kind = GrammarSpec::Kind;

std::shared_ptr<const Vocabulary> Bytes() {
  static const auto vocabulary = [] {
    std::vector<std::string> bytes;
    for (int i = 0; i < 256; ++i) bytes.emplace_back(1, static_cast<char>(i));
    return MakeVocabulary(std::move(bytes));
  }();
  return vocabulary;
}

// A grammar that reads text byte by byte.
class Reader {
 public:
  explicit Reader(const GrammarSpec& spec) {
    StatusOr<Automaton> automaton = CompileGrammar(spec);
    if (!automaton.ok()) {
      error_ = std::string(Message(automaton.status()));
    } else {
      masks_ = std::make_unique<TokenMasks>(Bytes(), *std::move(automaton));
    }
  }
  const std::string& error() const { return error_; }

  bool Matches(std::string_view text) {
    StateId state = masks_->Start();
    for (const char c : text) {
      const StateId next = masks_->Advance(state, static_cast<uint8_t>(c));
      masks_->Release(state);
      if (next == TokenMasks::kDead) return false;
      state = next;
    }
    const bool end = masks_->CanEnd(state);
    masks_->Release(state);
    return end;
  }

 private:
  std::string error_;
  std::unique_ptr<TokenMasks> masks_;
};

std::string ErrorOf(Kind kind, const std::string& text) { return Reader({kind, text}).error(); }

struct Case {
  Kind kind;
  std::string text;
  std::vector<std::string> matched, refused;
};

TEST(Grammar, MatchesWhatItSays) {
  const Case cases[] = {
      {Kind::kRegex, "a(b|c)*d?", {"a", "abcbd", "ad"}, {"", "b", "add", "abx"}},
      {Kind::kRegex, "[^a-y]{2,3}", {"zz", "zz!", "é€"}, {"z", "zzzz", "za"}},
      {Kind::kRegex, R"(\d+\.\d{2}\s?€)", {"12.50€", "0.99 €"}, {"12.5€", "1.234 €"}},
      {Kind::kRegex, R"(^\u00e9\x41\u{1F600}$)", {"éA😀"}, {"éA"}},
      {Kind::kRegex, "(?:yes|no)", {"yes", "no"}, {"yesno", "y"}},
      {Kind::kRegex, "[\\w-]+@x\\.de", {"a-b@x.de"}, {"@x.de", "ä@x.de"}},
      {Kind::kRegex, ".{0,2}", {"", "ab", "€€"}, {"abc", "\n"}},
      {Kind::kRegex, "[[:a]{[\\]]{,x}", {"[{]{,x}", ":{]{,x}"}, {"[]"}},
      {Kind::kChoice,
       R"(["red", "green", "gr\u00fcn"])",
       {"red", "green", "grün"},
       {"gre", "redd"}},
      {Kind::kEbnf, "root ::= \"a\" root \"b\" | \"\"", {"", "ab", "aaabbb"}, {"aab", "abb", "ba"}},
      {Kind::kEbnf,
       "# sums\nroot ::= term (op term)*\nop ::= [-+]\n  | \"*\"\nterm ::= [0-9]+ | \"(\" root "
       "\")\"",
       {"1", "1+22", "(1-2)*3", "((7))"},
       {"", "1+", "(1", "1)"}},
      {Kind::kEbnf,
       "root ::= \"f(\" %json {\"type\": \"object\", \"properties\": {\"}\": {\"enum\": [1]}}} "
       "\")\" "
       "more?\nmore ::= %json true{2}",
       {"f({})", R"(f({"}":1}))", R"(f({})[]"x")"},
       {"f({})[]", "f([])", R"(f({"}":2}))"}},
      {Kind::kSequence,
       R"([{"kind":3,"text":"a+"},{"kind":5,"text":"root ::= \"-\"?"},{"kind":4,"text":"[\"b\"]"}])",
       {"ab", "aa-b"},
       {"a", "b", "a-", "a--b"}},
      {Kind::kEbnf, "root ::= [^\"\\\\\\]]{1,3} .\n", {"abc", "ab"}, {"a", "\"b", "abcde"}},
      {Kind::kJsonObject,
       "",
       {"{}", R"({"a":1})", R"({ "a": [1, 2.5e-3, true, null, "x\n\u00e9\ud83d\ude00"], "b": {} })",
        "{\n  \"a\": 1\n}"},
       {"[]", "1", R"({"a":})", R"({"a":01})", R"({a:1})", R"({"a":1,})", R"({"a":"\ud83d"})",
        "{\"a\":\"\n\"}", R"({"a":1)", R"({"a":.5})", "{\"a\":\"\xff\"}"}},
      {Kind::kJsonSchema,
       R"({"properties":{"n":{"type":"integer","minimum":-5,"maximum":120}},"required":["n"]})",
       {R"({"n":-5})", R"({"n":0})", R"({"n":99})", R"({"n":120})"},
       {R"({"n":-6})", R"({"n":121})", R"({"n":1.5})", R"({"n":-0})", R"({"n":007})", "{}"}},
      {Kind::kJsonSchema,
       R"({"type":"number","exclusiveMinimum":0,"maximum":1})",
       {"0.5", "1", "1.0", "0.001", "0.10"},
       {"0", "0.0", "1.01", "-0.5", "2", "1e0"}},
      {Kind::kJsonSchema,
       R"({"type":"number","minimum":-3,"exclusiveMaximum":12})",
       {"-3", "-2.9", "0", "11.999", "-0.5", "7"},
       {"-3.1", "12", "12.0", "-4"}},
      {Kind::kJsonSchema,
       R"({"type":"integer","minimum":-9007199254740991,"maximum":9007199254740991})",
       {"0", "-1", "9007199254740991", "-9007199254740991", "9000000000000000", "8999999999999999"},
       {"9007199254740992", "-9007199254740992", "9010000000000000", "10000000000000000", "00"}},
      {Kind::kJsonSchema,
       R"({"type":"integer","minimum":95,"exclusiveMaximum":12001})",
       {"95", "99", "100", "999", "1000", "9999", "10000", "11999", "12000"},
       {"94", "9", "12001", "13000", "99999", "010", "-95"}},
      {Kind::kJsonSchema,
       R"({"required":["aé","ab","b"],"additionalProperties":{"type":"null"}})",
       {R"({"aé":null,"ab":null,"b":null})", R"({"aé":null,"ab":null,"b":null,"a":null})",
        R"({"aé":null,"ab":null,"b":null,"":null,"abc":null})"},
       {R"({"aé":null,"ab":null})", R"({"aé":null,"ab":null,"b":null,"ab":null})",
        R"({"aé":null,"ab":null,"b":1})"}},
      {Kind::kJsonSchema,
       R"({"type":"object","properties":{"a":{},"b":{"type":"null"},"c":{}},"required":["b"],
           "additionalProperties":{"type":"boolean"}})",
       {R"({"b":null})", R"({"a":1,"b":null})", R"({"b":null,"c":[],"d":true,"aa":false})"},
       {R"({"a":1})", R"({"b":null,"d":1})", R"({"b":null,"b":true})", R"({"b":1})"}},
      {Kind::kJsonSchema,
       R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}],
           "items":{"type":"null"},"minItems":1,"maxItems":4})",
       {"[1]", R"([1, "a"])", R"([1,"a",null,null])"},
       {"[]", R"(["a"])", "[1,2]", R"([1,"a",null,null,null])"}},
      {Kind::kJsonSchema,
       R"({"$defs":{"node":{"type":"object","properties":{"v":{"type":"integer"},
           "next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},"required":["v","next"]}},
           "$ref":"#/$defs/node"})",
       {R"({"v":1,"next":null})", R"({"v":1,"next":{"v":2,"next":null}})"},
       {R"({"v":1})", R"({"v":1,"next":1})"}},
      {Kind::kJsonSchema,
       R"({"type":"string","pattern":"^[a-z\"\\n]{2}$"})",
       {R"("ab")", R"("\"\n")"},
       {R"("abc")", R"("a")", R"("""")"}},
      {Kind::kJsonSchema,
       R"({"type":"string","minLength":2,"maxLength":3})",
       {R"("ab")", R"("\u00e9€")", R"("\ud83d\ude00aa")"},
       {R"("a")", R"("abcd")", "2"}},
  };
  for (const Case& c : cases) {
    Reader reader({c.kind, c.text});
    ASSERT_EQ(reader.error(), "") << c.text;
    for (const std::string& text : c.matched)
      EXPECT_TRUE(reader.Matches(text)) << c.text << " " << text;
    for (const std::string& text : c.refused)
      EXPECT_FALSE(reader.Matches(text)) << c.text << " " << text;
  }
}

// Schemas as pydantic, zod and OpenAPI write them.
TEST(JsonSchema, TakesWhatToolsWrite) {
  const Case cases[] = {
      {Kind::kJsonSchema,
       R"({"$defs":{"Cat":{"type":"object","properties":{"kind":{"const":"cat","enum":["cat"]}},
           "required":["kind"]},"Dog":{"type":"object","properties":{"kind":{"enum":["dog","d"],
           "const":"dog","x-order":1,"example":"dog"}},"required":["kind"]}},
           "discriminator":{"propertyName":"kind","mapping":{"cat":"#/$defs/Cat"}},
           "type":"object","oneOf":[{"$ref":"#/$defs/Cat"},{"$ref":"#/$defs/Dog"}]})",
       {R"({"kind":"cat"})", R"({"kind":"dog"})"},
       {R"({"kind":"d"})", "{}"}},
      {Kind::kJsonSchema,
       R"({"type":"object","propertyNames":{"type":"string"},
           "additionalProperties":{"type":"integer"}})",
       {"{}", R"({"x":1,"y":2})"},
       {R"({"x":"1"})"}},
      {Kind::kJsonSchema,
       R"({"$defs":{"C":{"enum":["red","blue"],"type":"string","title":"C"}},"type":"object",
           "propertyNames":{"$ref":"#/$defs/C"},"additionalProperties":{"type":"integer"},
           "required":["blue"]})",
       {R"({"blue":1})", R"({"red":1,"blue":2})"},
       {"{}", R"({"red":1})", R"({"blue":1,"green":2})"}},
      {Kind::kJsonSchema,
       R"({"type":"object","propertyNames":{"pattern":"^[a-z]+$","maxLength":3},
           "additionalProperties":{"type":"null"}})",
       {"{}", R"({"abc":null,"d":null})"},
       {R"({"abcd":null})", R"({"A":null})", R"({"":null})"}},
      {Kind::kJsonSchema, R"({"propertyNames":{"enum":["a"]},"required":["b"]})", {}, {"{}"}},
      {Kind::kJsonSchema,
       R"({"type":"string","format":"email","pattern":"^[a-z]@[a-z]$"})",
       {R"("a@b")"},
       {R"("a@b.c")"}},
      {Kind::kJsonSchema,
       R"({"type":"string","pattern":"^[a-z][a-z0-9-]*$","minLength":2,"maxLength":4})",
       {R"("ab")", R"("a-b9")"},
       {R"("a")", R"("abcde")", R"("9a")"}},
      {Kind::kJsonSchema,
       R"({"type":"string","pattern":"^([0-9]{2}:)+$|^x?$","minLength":1,"maxLength":8})",
       {R"("12:")", R"("12:34:")", R"("x")"},
       {R"("")", R"("12:34:56:")"}},
      {Kind::kJsonSchema,
       R"({"type":"string","pattern":"^#","minLength":3,"maxLength":5})",
       {R"("#ab")", R"("#\"é€a")"},
       {R"("#a")", R"("#abcde")", R"("abc")"}},
      {Kind::kJsonSchema,
       R"({"type":"string","pattern":"^[ab]{3}$","minLength":1,"maxLength":9})",
       {R"("aba")"},
       {R"("ab")"}},
      {Kind::kJsonSchema,
       R"({"type":["string","null"],"anyOf":[{"maxLength":2},{"enum":["long",1]}]})",
       {R"("ab")", R"("long")", "null"},
       {R"("abc")", "1", "[]"}},
      {Kind::kJsonSchema,
       R"({"type":"object","anyOf":[{"required":["a"]},{"properties":{"b":{"type":"null"}},
           "required":["b"]}]})",
       {R"({"a":1})", R"({"b":null})"},
       {"{}", "1", R"({"b":1})"}},
      {Kind::kJsonSchema,
       R"({"type":"number","anyOf":[{"type":["integer","string"]},false]})",
       {"1"},
       {R"("1")", "1.5"}},
      {Kind::kJsonSchema,
       R"({"nullable":true,"allOf":[{"type":"integer"}]})",
       {"1", "null"},
       {R"("x")"}},
      {Kind::kJsonSchema,
       R"({"type":"string","nullable":true,"enum":["a",null]})",
       {R"("a")", "null"},
       {R"("null")"}},
      {Kind::kJsonSchema,
       R"({"type":"array","minItems":2,"maxItems":2,"items":[{"type":"string"},{"type":"null"}]})",
       {R"(["a",null])"},
       {R"(["a"])", R"(["a",null,1])", "[null,null]"}},
      {Kind::kJsonSchema,
       R"({"type":"array","items":[{"type":"null"}],"additionalItems":{"type":"boolean"}})",
       {"[null]", "[null,true]", "[]"},
       {"[null,null]", "[true]"}},
      {Kind::kJsonSchema,
       R"({"type":"string","format":"duration"})",
       {R"("P1DT2H")", R"("PT5M")", R"("P2Y3M")", R"("P1W")"},
       {R"("P")", R"("P1DT")", R"("PT1D")"}},
      {Kind::kJsonSchema,
       R"({"type":"string","format":"ipv6"})",
       {R"("::1")", R"("::")", R"("fe80::1:2")", R"("1:2:3:4:5:6:7:8")", R"("1::")"},
       {R"("1:2:3")", R"("1::2::3")", R"("12345::")", R"("1:2:3:4:5:6:7:8:9")"}},
      {Kind::kJsonSchema,
       R"({"type":"string","format":"hostname"})",
       {R"("a")", R"("www.example-1.org")"},
       {R"("")", R"("-a")", R"("a..b")", R"("a-")"}},
      {Kind::kJsonSchema,
       R"({"type":"string","format":"uri","minLength":1,"maxLength":2083})",
       {R"("https://example.org/a?b=c#d")", R"("s3:x")"},
       {R"("a b:c")", R"("x")", R"(":x")"}},
      {Kind::kJsonSchema,
       R"({"type":"string","format":"uri"})",
       {R"("https://example.org/%20")"},
       {R"("https://example.org/%2")"}},
      {Kind::kJsonSchema,
       R"({"type":"string","format":"password","minLength":2})",
       {R"("ab")"},
       {R"("a")"}},
  };
  for (const Case& c : cases) {
    Reader reader({c.kind, c.text});
    if (c.matched.empty() && reader.error() == "nothing matches the grammar") continue;
    ASSERT_EQ(reader.error(), "") << c.text;
    for (const std::string& text : c.matched)
      EXPECT_TRUE(reader.Matches(text)) << c.text << " " << text;
    for (const std::string& text : c.refused)
      EXPECT_FALSE(reader.Matches(text)) << c.text << " " << text;
  }
}

TEST(Grammar, RefusesByName) {
  const std::pair<GrammarSpec, const char*> cases[] = {
      {{Kind::kRegex, "a(?=b)"}, "(? at byte 2 is not supported"},
      {{Kind::kRegex, "(a)\\1"}, "\\1 at byte 4 is not supported"},
      {{Kind::kRegex, "(a"}, "missing ) at byte 2"},
      {{Kind::kRegex, "a)"}, "unmatched ) at byte 1"},
      {{Kind::kRegex, "[z-a]"}, "a range that is none"},
      {{Kind::kRegex, "*a"}, "nothing to repeat"},
      {{Kind::kRegex, "a{2}{3}"}, "nothing to repeat at byte 4"},
      {{Kind::kRegex, "a|{2}"}, "nothing to repeat at byte 2"},
      {{Kind::kRegex, "a{,3}"}, "{,n} (for {0,n}) at byte 1 is not supported"},
      {{Kind::kRegex, "[a[:alpha:]]"}, "[:alpha:] at byte 2 is not supported"},
      {{Kind::kRegex, "[]a]"}, "an empty class (the character ] is written \\]) at byte 1"},
      {{Kind::kRegex, "(a{1000}){1000}"}, "too large"},
      {{Kind::kChoice, "[]"}, "a list of strings"},
      {{Kind::kChoice, "[1]"}, "a choice is a string"},
      {{Kind::kEbnf, "root ::= other"}, "line 1: there is no rule 'other'"},
      {{Kind::kEbnf, "start ::= \"a\""}, "no rule 'root'"},
      {{Kind::kEbnf, "root ::= \"a\"\nroot ::= \"b\""}, "line 2: rule 'root' is there already"},
      {{Kind::kEbnf, "root ::= root \"a\" | \"b\""}, "rule 'root' can begin with itself"},
      {{Kind::kEbnf, "root ::= a \"x\"\na ::= b? root\nb ::= \"y\"*"}, "(left recursion)"},
      {{Kind::kEbnf, "root ::= \"a"}, "line 1: the line ends within"},
      {{Kind::kEbnf, "root ::= (\"a\"\n"}, "missing )"},
      {{Kind::kEbnf, "root ::= \"a\"\n %json {\"type\": 1}"}, "line 2: #: 'type' is"},
      {{Kind::kEbnf, "root ::= %json {\"a\""}, "line 1: the schema is not JSON"},
      {{Kind::kEbnf, "root ::= %jso"}, "unexpected '%'"},
      {{Kind::kSequence, "[]"}, "a list of 1 to 4 grammars"},
      {{Kind::kSequence, R"([{"kind":6,"text":"[]"}])"}, "a list of 1 to 4 grammars"},
      {{Kind::kSequence, R"([{"kind":3,"text":"a("}])"}, "missing )"},
      {{Kind::kJsonSchema, "{"}, "not JSON"},
      {{Kind::kJsonSchema, R"({"const":1e400})"}, "#: a constant beyond 2^63 is not supported"},
      {{Kind::kJsonSchema, R"({"enum":[{"a":[123456789012345678901234567890]}]})"}, "beyond 2^63"},
      {{Kind::kJsonSchema, R"({"type":"string","pattern":"^a+b+$","maxLength":9})"},
       "where more than one repetition between ^ and $ varies"},
      {{Kind::kJsonSchema, R"({"type":"string","format":"iri"})"}, "format 'iri'"},
      {{Kind::kJsonSchema, R"({"type":"string","$ref":"#/$defs/a","$defs":{"a":{"maxLength":3}}})"},
       "'type' around a '$ref'"},
      {{Kind::kJsonSchema,
        R"({"propertyNames":{"enum":["a"]},"properties":{"b":{"type":"null"}}})"},
       "'propertyNames' beside properties"},
      {{Kind::kJsonSchema, R"({"propertyNames":{"not":{}}})"}, "#/propertyNames: 'not'"},
      {{Kind::kJsonSchema, R"({"propertyNames":{"enum":["a"],"maxLength":1}})"},
       "#/propertyNames: 'maxLength'"},
      {{Kind::kJsonSchema, R"({"type":"object","properties":{"a":{"multipleOf":2}}})"},
       "#/properties/a: keyword 'multipleOf' is not supported"},
      {{Kind::kJsonSchema, R"({"type":"thing"})"}, "'type' is one of"},
      {{Kind::kJsonSchema, R"({"$ref":"#/$defs/x"})"}, "there is no '#/$defs/x'"},
      {{Kind::kJsonSchema, R"({"$ref":"other.json"})"}, "another document"},
      {{Kind::kJsonSchema, R"({"$ref":"#"})"}, "can begin with itself"},
      {{Kind::kJsonSchema, R"({"oneOf":[{"type":"integer"},{"type":"number"}]})"}, "may both hold"},
      {{Kind::kJsonSchema, R"({"type":"string","pattern":"\\bx"})"}, "#: regular expression: \\b"},
      {{Kind::kJsonSchema, R"({"type":"array","maxItems":99999,"items":{"type":"string"}})"},
       "too large"},
  };
  for (const auto& [spec, message] : cases) {
    EXPECT_NE(ErrorOf(spec.kind, spec.text).find(message), std::string::npos)
        << spec.text << ": " << ErrorOf(spec.kind, spec.text);
  }
}

// JSON-Schema-Test-Suite. What is matched must be valid. What is valid must be matched, unless it
// is one of the instances that json_schema.h leaves out; how many is written down.
TEST(JsonSchema, TestSuite) {
  std::ifstream file("tests/golden/data/json_schema_suite.json");
  std::stringstream text;
  text << file.rdbuf();
  const boost::json::value groups = boost::json::parse(text.str());
  int supported = 0, left_out = 0, matched = 0;
  for (const auto& group : groups.as_array()) {
    const std::string name(group.at("name").as_string());
    Reader reader({Kind::kJsonSchema, boost::json::serialize(group.at("schema"))});
    if (!reader.error().empty()) {
      EXPECT_TRUE(reader.error().find("is not supported") != std::string::npos ||
                  reader.error().find("can begin with itself") != std::string::npos ||
                  reader.error() == "nothing matches the grammar")
          << name << ": " << reader.error();
      continue;
    }
    ++supported;
    for (const auto& test : group.at("tests").as_array()) {
      const std::string data = boost::json::serialize(test.at(1));
      const bool valid = test.at(2).as_bool();
      const bool is = reader.Matches(data);
      EXPECT_FALSE(is && !valid) << name << ": " << data;
      matched += is && valid;
      left_out += valid && !is;
    }
  }
  // Most of those left out are of another type than the keywords are for, then numbers like 3.0,
  // leap days and seconds, quoted mail addresses, and properties that the schema does not name.
  EXPECT_EQ(supported, 123);
  EXPECT_EQ(matched, 201);
  EXPECT_EQ(left_out, 107);
}

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
      CompileGrammar({Kind::kEbnf, "root ::= a \"y\" a\na ::= [ab]{3,500}"});
  ASSERT_TRUE(automaton.ok());
  const auto count = [&](int depth) {
    const std::vector<int32_t> classes =
        NodeClasses(automaton->nodes, LeavingNodes(*automaton), depth);
    return std::set<int32_t>(classes.begin(), classes.end()).size();
  };
  EXPECT_GE(count(10), 498u) << "the rule may end behind each that is not of the first three";
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
