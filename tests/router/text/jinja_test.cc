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
      {"a\n{% include 'x' %}", "line 2: uses the tag {% include %}, which is not supported"},
      {"{% block x %}{% endblock %}", "the tag {% block %}"},
      {"{% do list.append(1) %}", "the tag {% do %}"},
      {"{{ x | urlize }}", "the filter 'urlize'"},
      {"{{ x\n | trim | from_json }}", "line 2: uses the filter 'from_json'"},
      {"{{ list | map('urlize') }}", "the filter 'urlize'"},
      {"{{ x | trim('a', 'b') }}", "2 arguments of the filter 'trim'"},
      {"{{ x | trim(side='left') }}", "the argument 'side' of the filter 'trim'"},
      {"{{ x is wonderful }}", "the test 'wonderful'"},
      {"{{ list | selectattr('a', 'wonderful') }}", "the test 'wonderful'"},
      {"{{ x.zfill(3) }}", "the method 'zfill'"},
      {"{{ lipsum() }}", "the function 'lipsum'"},
      {"{{ f(*list) }}", "an argument * or **"},
      {"{{ '%d' % n }}", "'...' % value"},
      {"{{ list[1, 2] }}", "several keys in [...]"},
      {"{{ '\\N{DASH}' }}", "the escape \\N"},
      {"{% for i in list recursive %}{% endfor %}", "a recursive {% for %}"},
      {"{% for a, (b, c) in list %}{% endfor %}", "names in brackets"},
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
      {"{% macro f() %}", "no {% endmacro %}"},
      {"{% raw %}{{ x }}", "no {% endraw %}"},
      {"{{ x", "ends inside a tag"},
      {"{{ 'x }}", "no closing quote"},
      {"{# x", "has no #}"},
      {"{{ }}", "a value is missing"},
      {"{{ x y }}", "'y' where }} is"},
      {"{{ (x }}", "'}' closes nothing"},
      {"{{ list[0 + ] }}", "a value is missing"},
      {"{{ {'a' 1} }}", "'1' where : is"},
      {"{% for in list %}", "'list' where 'in' is expected"},
      {"{{ x. }}", "a name after '.'"},
      {"{{ 99999999999999999999 }}", "is not a number"},
      {"{{ 1x }}", "followed by letters"},
      {"{{ x ? y }}", "'?' has no meaning"},
      {"{{ '\\ud800' }}", "is not a character"},
      {"{% break %}", "outside of a loop"},
      {"{% for i in list %}{% macro f() %}{% break %}{% endmacro %}{% endfor %}", "outside of a"},
      {"{% set true = 1 %}", "cannot be assigned to"},
      {"{% macro f(a=1, b) %}{% endmacro %}", "without a default"},
      {"{{ f(a=1, 2) }}", "follows one with a name"},
      {"{{ f(a=1, a=2) }}", "is given twice"},
      {"{{ x | replace('a') }}", "lacks an argument"},
      {"{{ x is divisibleby }}", "takes one argument"},
      {"{% call x %}{% endcall %}", "without a call"},
  };
  for (const auto& [source, error] : cases) {
    EXPECT_EQ(JinjaTemplate::Parse(source).status().code(), StatusCode::kInvalidArgument) << source;
    EXPECT_THAT(Render(source), HasSubstr(error)) << source;
    EXPECT_THAT(Render(source), HasSubstr("chat template, line 1")) << source;
  }
}

TEST(Jinja, NamesValuesThatDoNotSuit) {
  const std::pair<const char*, const char*> cases[] = {
      {"{{ x + n }}", "'+' does not take values of kind string and integer"},
      {"{{ map.gone.key }}", "'map.gone' is undefined, so it has no 'key'"},
      {"{{ gone() }}", "'gone' is undefined, so it cannot be called"},
      {"{% for i in n %}{% endfor %}", "cannot walk over a value of kind integer"},
      {"{{ list | map('upper') }}", "cannot print a value of kind iterator"},
      {"{{ list.append(1) }}", "may not call 'append' of a list"},
      {"{{ 9223372036854775807 + 1 }}", "64 bits"},
      {"{{ -(-9223372036854775807 - 1) }}", "64 bits"},
      {"{{ (-9223372036854775807 - 1) // -1 }}", "64 bits"},
      {"{{ 3037000500 * 3037000500 }}", "64 bits"},
      {"{{ 10 ** 19 }}", "64 bits"},
      {"{{ 9223372036854775807 | round(-1) }}", "64 bits"},
      {"{% set ns = namespace() %}{% set ns.me = ns %}", "cannot hold a value of kind namespace"},
      {"{% set ns = namespace() %}{% set ns.me = [[ns]] %}", "cannot hold a value of kind list"},
      {"{{ namespace(a=namespace()) }}", "cannot hold a value of kind namespace"},
      {"\n{{ raise_exception('Not so.') }}", "chat template, line 2: Not so."},
  };
  for (const auto& [source, error] : cases) {
    EXPECT_TRUE(JinjaTemplate::Parse(source).ok()) << source;
    EXPECT_THAT(Render(source), HasSubstr(error)) << source;
  }
}

std::string Repeated(std::string_view text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

TEST(Jinja, IsBoundedInDepth) {
  EXPECT_THAT(Render("{{ " + Repeated("(", 10000) + "}}"), HasSubstr("'}' closes nothing"));
  EXPECT_THAT(Render("{{ " + Repeated("(", 10000) + Repeated(")", 10000) + " }}"),
              HasSubstr("nesting deeper"));
  EXPECT_THAT(Render("{{ " + Repeated("a[", 10000) + "1" + Repeated("]", 10000) + "}}"),
              HasSubstr("nesting deeper"));
  EXPECT_THAT(Render("{{ " + Repeated("-", 10000) + "1 }}"), HasSubstr("nesting deeper"));
  EXPECT_THAT(Render("{{ " + Repeated("1 if 1 else ", 10000) + "1 }}"),
              HasSubstr("nesting deeper"));
  EXPECT_THAT(Render(Repeated("{% if x %}", 5000)), HasSubstr("nesting deeper"));
  for (const std::string_view more : {"+1", " if 1", ".a", "()", "|trim", " is none", "~1**1"}) {
    EXPECT_THAT(Render("{{ 1" + Repeated(more, 10000) + "}}"),
                testing::AnyOf(HasSubstr("expression deeper"), HasSubstr("11"),
                               HasSubstr("takes no argument")))
        << more;
  }
  EXPECT_THAT(Render("{{ " + Repeated("not ", 10000) + "x }}"), HasSubstr("expression deeper"));
  EXPECT_THAT(Render("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}"),
              HasSubstr("macros and expressions nest deeper than 600"));
  const std::string deep = Repeated("{% if x %}", 60) + "{{ f() }}" + Repeated("{% endif %}", 60);
  EXPECT_THAT(Render("{% macro f() %}" + deep + "{% endmacro %}{{ f() }}"),
              HasSubstr("macros and expressions nest deeper than 600"));
  EXPECT_THAT(Render("{% set ns = namespace(l=[]) %}{% for i in range(1000) %}"
                     "{% set ns.l = [ns.l] %}{% endfor %}"),
              HasSubstr("lists and maps nest deeper than 100"));
  JinjaValue nested(int64_t{1});
  for (int i = 0; i < 200; ++i) nested = JinjaValue(JinjaValue::List{nested});
  EXPECT_THAT(std::string(Message(JinjaTemplate().Render({}).status())), "");
  EXPECT_THAT(std::string(Message(JinjaTemplate::Parse("")->Render({{"v", nested}}).status())),
              HasSubstr("'v' nests deeper than 100"));
}

TEST(Jinja, IsBoundedInTimeAndOutput) {
  constexpr const char* kTooMuch = "more than 67108864 bytes";
  constexpr const char* kTooLong = "more than 2000000 evaluations";
  EXPECT_THAT(Render(std::string((1 << 20) + 1, 'x')), HasSubstr("at most 1048576"));
  EXPECT_THAT(Render("{% set s = x %}" + Repeated("{% set s = s + s %}", 40)), HasSubstr(kTooMuch));
  EXPECT_THAT(Render("{{ 'ab' * 99999999999 }}"), HasSubstr(kTooMuch));
  EXPECT_THAT(Render("{{ [1] * 99999999999 }}"), HasSubstr(kTooLong));
  EXPECT_THAT(Render("{{ ('a' * 100000).replace('', 'b' * 10000) }}"), HasSubstr(kTooMuch));
  EXPECT_THAT(Render("{{ ('a' * 100000)|replace('a', 'b' * 10000) }}"), HasSubstr(kTooMuch));
  EXPECT_THAT(Render("{{ ('\\n' * 500000) | indent(250, blank=true) }}"), HasSubstr(kTooMuch));
  EXPECT_THAT(Render("{{ range(100001) }}"), HasSubstr("range of more than 100000"));
  // Shared lists: small in memory, endless when they are walked.
  const std::string shared =
      "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}"
      "{% endfor %}{% set ns.m = ns.l[:] %}";
  EXPECT_THAT(Render(shared + "{{ ns.l }}"), HasSubstr(kTooLong));
  EXPECT_THAT(Render(shared + "{{ ns.l == ns.m }}"), HasSubstr(kTooLong));
  EXPECT_THAT(Render("{% set l = range(3000) | list %}{{ l | map('string') | unique | list }}"),
              HasSubstr(kTooLong));
  // Searches take linear time, and count.
  EXPECT_THAT(Render("{% set s = 'a' * 1000000 %}{% for i in range(100000) %}"
                     "{{ 'b' in s }}{% endfor %}"),
              HasSubstr(kTooLong));
  std::string loops = "{% set n = 1 %}";
  for (int i = 0; i < 30; ++i) loops += "{% for i in list %}";
  EXPECT_THAT(Render(loops + "{{ i }}" + Repeated("{% endfor %}", 30)), HasSubstr(kTooLong));
  EXPECT_THAT(Render("{{ strftime_now('%1000000d') }}"), HasSubstr("more than 1 kB"));
}

}  // namespace
}  // namespace tandem::text
