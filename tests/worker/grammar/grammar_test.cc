// What grammars match, against texts that they should and should not.
#include "common/grammar/grammar.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "tests/worker/grammar/byte_vocabulary.h"
#include "worker/grammar/token_masks.h"

namespace tandem::grammar {
namespace {

using Kind = GrammarSpec::Kind;

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

// The body of a rule over "ab", at random.
std::string RandomBody(std::mt19937_64& random, int rules, int depth) {
  std::string out;
  for (size_t choices = 1 + random() % 3; choices > 0; --choices) {
    out += random() % 2 == 0 ? "\"a\"" : "\"b\"";  // first a letter: no left recursion
    for (size_t parts = random() % 3; parts > 0; --parts) {
      const uint64_t kind = random() % 6;
      if (kind == 0 && depth < 2) {
        out += " (" + RandomBody(random, rules, depth + 1) + ")";
      } else {
        out += kind < 3 ? " [ab]" : " r" + std::to_string(random() % rules);
      }
      const char* const repeats[] = {"", "", "?", "*", "{0,2}"};
      out += repeats[random() % 5];
    }
    if (choices > 1) out += " | ";
  }
  return out;
}

// Rules that are laid out where they are used match what they match apart.
TEST(Grammar, RulesInPlaceMatchTheSame) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  std::vector<std::string> texts = {""};
  for (size_t i = 0; texts.back().size() < 8; ++i) {
    texts.push_back(texts[i] + "a");
    texts.push_back(texts[i] + "b");
  }
  int matched = 0, compared = 0;
  for (int round = 0; round < 300; ++round) {
    const int rules = 1 + static_cast<int>(random() % 4);
    std::string text = "root ::= r0\n";
    for (int i = 0; i < rules; ++i) {
      text += "r" + std::to_string(i) + " ::= " + RandomBody(random, rules, 0) + "\n";
    }
    // One rule that is too large makes the others stay apart.
    Reader in_place({Kind::kEbnf, text}), apart({Kind::kEbnf, text + "large ::= [ab]{5000}\n"});
    ASSERT_EQ(in_place.error(), apart.error()) << text;
    if (!in_place.error().empty()) continue;
    for (const std::string& t : texts) {
      const bool is = in_place.Matches(t);
      ASSERT_EQ(is, apart.Matches(t)) << text << '"' << t << '"';
      matched += is;
      ++compared;
    }
  }
  EXPECT_GT(matched, 0);
  EXPECT_GT(compared, 10'000);
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

}  // namespace
}  // namespace tandem::grammar
