#include "router/text/jinja.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::text {
namespace {

using ::testing::HasSubstr;
using Value = JinjaValue;

Value Text(const char* text) { return Value(std::string(text)); }

Value::Map Variables() {
  return {{"x", Text("ex")},
          {"empty", Text("")},
          {"n", Value(int64_t{7})},
          {"yes", Value(true)},
          {"nothing", Value(Value::None{})},
          {"list", Value(Value::List{Text("a"), Text("b"), Text("c")})},
          {"map", Value(Value::Map{{"key", Text("value")}})}};
}

std::string Render(std::string_view source) {
  const auto parsed = JinjaTemplate::Parse(source);
  if (!parsed.ok()) return std::string(Message(parsed.status()));
  const auto text = parsed->Render(Variables());
  return text.ok() ? *text : std::string(Message(text.status()));
}

// The expectations are jinja2's (trim_blocks and lstrip_blocks set, as transformers does).
TEST(Jinja, Expressions) {
  EXPECT_EQ(Render("plain { text } %}"), "plain { text } %}");
  EXPECT_EQ(Render("{{ x }}{{ 'a' + \"b\" }}{{ 1 + 2 }}{{ x ~ n }}"), "exab3ex7");
  EXPECT_EQ(Render("{{ list[0] }}{{ list[-1] }}{{ map.key }}{{ map['key'] }}"), "acvaluevalue");
  EXPECT_EQ(Render("{{ n - 2 }} {{ -n }} {{ n == 7 }} {{ n != 7 }}"), "5 -7 True False");
  EXPECT_EQ(Render("{{ nothing }}|{{ missing }}|{{ map.missing }}|{{ list[9] }}"), "None|||");
  EXPECT_EQ(Render("{{ 'a' in list }} {{ 'z' not in list }} {{ 'e' in x }} {{ 'key' in map }}"),
            "True True True True");
  EXPECT_EQ(Render("{{ 1 < 2 }} {{ 'b' > 'a' }} {{ 2 <= 1 }} {{ 2 >= 2 }}"),
            "True True False True");
  EXPECT_EQ(Render("{{ empty or 'other' }} {{ x and n }} {{ not yes }}"), "other 7 False");
  EXPECT_EQ(Render("{{ not x == 'no' and (false or true) }}"), "True");
  EXPECT_EQ(Render("{{ ' \u00a0 padded\n' | trim }}|{{ x|length }}{{ list|length }}"), "padded|23");
  EXPECT_EQ(Render("{{ 'a' + ' b '|trim + 'c' }}"), "abc");
  EXPECT_EQ(Render("{{ x is defined }} {{ missing is defined }} {{ missing is not defined }} "
                   "{{ nothing is none }} {{ x is string }}"),
            "True False True True True");
  EXPECT_EQ(Render("{{ true == 1 }} {{ '1' == 1 }} {{ none == missing }}"), "True False False");
  EXPECT_EQ(Render(R"({{ 'tab\t nl\n q\' \\ "' }})"), "tab\t nl\n q' \\ \"");
}

TEST(Jinja, Statements) {
  EXPECT_EQ(Render("{% if n == 7 %}seven{% endif %}{% if empty %}no{% endif %}"), "seven");
  EXPECT_EQ(Render("{% if empty %}1{% elif n == 7 %}2{% else %}3{% endif %}"), "2");
  EXPECT_EQ(Render("{% if empty %}1{% elif n == 8 %}2{% else %}3{% endif %}"), "3");
  EXPECT_EQ(Render("{% for i in list %}{{ loop.index0 }}{{ loop.index }}{{ i }}"
                   "{% if loop.first %}F{% endif %}{% if loop.last %}L{% endif %}{% endfor %}"),
            "01aF12b23cL");
  EXPECT_EQ(Render("{% for i in list %}{% for j in list %}{{ loop.index }}{% endfor %}"
                   "{{ loop.index }}/{{ loop.length }} {% endfor %}"),
            "1231/3 1232/3 1233/3 ");
  EXPECT_EQ(Render("{% set y = x + '!' %}{{ y }}"), "ex!");
  EXPECT_EQ(Render("{% if yes %}{% set y = 1 %}{% endif %}{{ y }}"), "1");
}

TEST(Jinja, WhatALoopSetsIsGoneAfterIt) {
  EXPECT_EQ(Render("{% set y = 0 %}{% for i in list %}{{ y }}{% set y = 5 %}{{ y }}{% endfor %}"
                   "{{ y }}{{ i }}{{ loop }}"),
            "0505050");
}

TEST(Jinja, WhiteSpaceAroundTags) {
  EXPECT_EQ(Render("a\n{% if yes %}\nb\n{% endif %}\nc\n"), "a\nb\nc");
  EXPECT_EQ(Render("a\n   {% if yes %}\n  b\n\t{% endif %}\n\nc"), "a\n  b\n\nc");
  EXPECT_EQ(Render("a {% if yes %} b {% endif %} c"), "a  b  c");
  EXPECT_EQ(Render("a \n {%- if yes -%} \n b {%- endif %} c"), "ab c");
  EXPECT_EQ(Render("a {{- x -}}\n c {{ x }}\nd"), "aexc ex\nd");
  EXPECT_EQ(Render("  {%+ if yes +%}\nb{% endif %}"), "  \nb");
  EXPECT_EQ(Render("  {# note #}\nb {#- c -#} \n d"), "bd");
  EXPECT_EQ(Render("{% if yes %}  {% endif %}  {% if yes %}|{% endif %}"), "    |");
  EXPECT_EQ(Render("a\r\nb\r\n\n"), "a\nb\n");
  EXPECT_EQ(Render("  {{ x }}\n  {{ x }}"), "  ex\n  ex");
}

TEST(Jinja, RefusesWhatItDoesNotSupportByName) {
  const std::pair<const char*, const char*> cases[] = {
      {"a\n{% macro f() %}{% endmacro %}",
       "line 2: uses the tag {% macro %}, which is not supported"},
      {"{{ raise_exception('x') }}", "uses a call of a function, which is not supported"},
      {"{{ x.strip() }}", "a call of a function"},
      {"{{ x | tojson }}", "the filter 'tojson'"},
      {"{{ x | trim('a') }}", "arguments of a filter"},
      {"{{ x is mapping }}", "the test 'mapping'"},
      {"{{ list[1:] }}", "a slice"},
      {"{{ list[:1] }}", "a slice"},
      {"{{ [1, 2] }}", "a list"},
      {"{{ {'a': 1} }}", "a map"},
      {"{{ 'a' if x else 'b' }}", "'a if b else c'"},
      {"{{ n % 2 }}", "the operator %"},
      {"{{ n * 2 }}", "the operator *"},
      {"{{ 1.5 }}", "fractional numbers"},
      {"{{ '\\x41' }}", "the escape \\x"},
      {"{% set a.b = 1 %}", "a form of {% set %}"},
      {"{% for k, v in list %}{% endfor %}", "several variables"},
      {"{% for i in list if i %}{% endfor %}", "'if' in {% for %}"},
      {"{% for i in list %}{% else %}{% endfor %}", "{% else %} of {% for %}"},
  };
  for (const auto& [source, error] : cases) {
    const auto parsed = JinjaTemplate::Parse(source);
    EXPECT_EQ(parsed.status().code(), StatusCode::kUnimplemented) << source;
    EXPECT_THAT(Render(source), HasSubstr(error)) << source;
  }
}

TEST(Jinja, NamesMistakesInTheTemplate) {
  const std::pair<const char*, const char*> cases[] = {
      {"{% if x %}", "no {% endif %}"},
      {"{% for i in list %}", "no {% endfor %}"},
      {"{{ x", "ends inside a tag"},
      {"{{ 'x }}", "no closing quote"},
      {"{# x", "has no #}"},
      {"{{ }}", "a value is missing"},
      {"{{ x y }}", "'y' where }} is"},
      {"{{ (x }}", "where ) is expected"},
      {"{{ list[0 }}", "where ] is"},
      {"{% for in list %}", "'list' where 'in' is expected"},
      {"{{ x. }}", "a name after '.'"},
      {"{{ 99999999999999999999 }}", "is not a number"},
      {"{{ 1x }}", "is not a number"},
      {"{% if x %}{% endfor %}", "the tag {% endfor %}"},
      {"{{ x == n == n }}", "'==' where"},
  };
  for (const auto& [source, error] : cases) {
    EXPECT_FALSE(JinjaTemplate::Parse(source).ok()) << source;
    EXPECT_THAT(Render(source), HasSubstr(error)) << source;
    EXPECT_THAT(Render(source), HasSubstr("chat template, line 1")) << source;
  }
}

TEST(Jinja, NamesValuesThatDoNotSuit) {
  const std::pair<const char*, const char*> cases[] = {
      {"{{ x + n }}", "'+' does not take values of kind string and integer"},
      {"{{ x + missing }}", "string and undefined"},
      {"{{ missing.key }}", "cannot take 'key' of an undefined value"},
      {"{% for i in x %}{% endfor %}", "cannot walk over a value of kind string"},
      {"{{ list }}", "cannot print a list"},
      {"{{ -x }}", "cannot negate"},
      {"{{ 9223372036854775807 + 1 }}", "64 bits"},
      {"{{ -(-9223372036854775807 - 1) }}", "64 bits"},
      {"{{ n < x }}", "'<' does not take"},
      {"{{ n in n }}", "'in' does not take"},
      {"{{ n|length }}", "has no length"},
  };
  for (const auto& [source, error] : cases) {
    EXPECT_TRUE(JinjaTemplate::Parse(source).ok()) << source;
    EXPECT_THAT(Render(source), HasSubstr(error)) << source;
  }
}

TEST(Jinja, IsBoundedInDepthTimeAndOutput) {
  const auto repeat = [](std::string_view text, int count) {
    std::string all;
    for (int i = 0; i < count; ++i) all += text;
    return all;
  };
  EXPECT_THAT(Render("{{ " + repeat("(", 10000) + "}}"), HasSubstr("nesting deeper"));
  EXPECT_THAT(Render("{{ " + repeat("a[", 10000) + "}}"), HasSubstr("nesting deeper"));
  EXPECT_THAT(Render(repeat("{% if x %}", 5000)), HasSubstr("nesting deeper"));
  EXPECT_THAT(Render("{{ 1" + repeat("+1", 10000) + "}}"), HasSubstr("expression deeper"));
  EXPECT_THAT(Render("{{ " + repeat("not ", 10000) + "x }}"), HasSubstr("expression deeper"));
  EXPECT_THAT(Render("{{ x" + repeat(".a", 10000) + "}}"), HasSubstr("expression deeper"));
  EXPECT_THAT(Render(std::string((1 << 20) + 1, 'x')), HasSubstr("at most 1048576"));
  EXPECT_THAT(Render("{% set s = x %}" + repeat("{% set s = s + s %}", 40)),
              HasSubstr("more than 67108864 bytes"));
  std::string loops = "{% set n = 1 %}";
  for (int i = 0; i < 30; ++i) loops += "{% for i in list %}";
  EXPECT_THAT(Render(loops + "{{ i }}" + repeat("{% endfor %}", 30)),
              HasSubstr("more than 2000000 evaluations"));
}

}  // namespace
}  // namespace tandem::text
