#include "common/config/yaml_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace tandem::config {
namespace {

using testing::HasSubstr;

YamlError ErrorOf(const std::string& text) {
  YamlNode root;
  YamlError error;
  EXPECT_FALSE(ParseYaml(text, &root, &error)) << text.substr(0, 200);
  EXPECT_EQ(root.kind, YamlNode::Kind::kNothing);
  return error;
}

TEST(YamlTree, KeepsPositionsOrderAndRepeatedKeys) {
  YamlNode root;
  YamlError error;
  ASSERT_TRUE(ParseYaml("b: 1\na:\n  - x\n  - {c: 2}\nb: 3\n", &root, &error));
  ASSERT_EQ(root.kind, YamlNode::Kind::kMap);
  ASSERT_EQ(root.items.size(), 6u);
  EXPECT_EQ(root.items[0].text, "b");
  EXPECT_EQ(root.items[4].text, "b");
  EXPECT_EQ(root.items[4].at, (Position{5, 1}));
  const YamlNode& list = root.items[3];
  ASSERT_EQ(list.kind, YamlNode::Kind::kList);
  EXPECT_EQ(list.items[0].at, (Position{3, 5}));
  EXPECT_EQ(list.items[1].items[1].text, "2");
}

TEST(YamlTree, EmptyTextsAreNothing) {
  for (const char* text : {"", "\n\n", "# only a comment\n", "---\n", "~\n"}) {
    YamlNode root;
    YamlError error;
    EXPECT_TRUE(ParseYaml(text, &root, &error)) << text;
    EXPECT_EQ(root.kind, YamlNode::Kind::kNothing) << text;
  }
}

TEST(YamlTree, SyntaxErrorsHaveTheirLine) {
  EXPECT_EQ(ErrorOf("a: 1\nb: [1, 2\n").at.line, 3);
  EXPECT_EQ(ErrorOf("a: 1\n\tb: 2\n").at.line, 2);
  EXPECT_EQ(ErrorOf("a: *unknown\n").at.line, 1);
  EXPECT_THAT(ErrorOf("a: {b: c\n").message, HasSubstr("not YAML: "));
  EXPECT_THAT(ErrorOf("a: 1\n---\nb: 2\n").message, HasSubstr("a second document"));
}

TEST(YamlTree, RefusesHugeFiles) {
  EXPECT_THAT(ErrorOf(std::string(1 << 20, 'a')).message, HasSubstr("at most 262144"));
}

TEST(YamlTree, RefusesAliasBombs) {
  std::string bomb = "l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 10; ++i) {
    bomb +=
        fmt::format("l{0}: &l{0} [*l{1}, *l{1}, *l{1}, *l{1}, *l{1}, *l{1}, *l{1}]\n", i, i - 1);
  }
  EXPECT_THAT(ErrorOf(bomb).message, HasSubstr("more than 20000 values"));
}

TEST(YamlTree, RefusesAnAliasInsideItself) {
  EXPECT_THAT(ErrorOf("a: &a [*a]\n").message, HasSubstr("nested deeper"));
}

TEST(YamlTree, RefusesDeepNesting) {
  EXPECT_FALSE(ErrorOf(std::string(100'000, '[')).message.empty());
  EXPECT_FALSE(ErrorOf(std::string(40, '[') + std::string(40, ']')).message.empty());
  std::string deep;
  for (int i = 0; i < 60; ++i) deep += std::string(static_cast<size_t>(i), ' ') + "a:\n";
  EXPECT_THAT(ErrorOf(deep).message, HasSubstr("nested deeper than 32"));
}

TEST(YamlTree, SurvivesEveryPrefixAndBytesThatAreNotText) {
  const std::string text = "a: &x [1, 'b']\nc: {d: *x, \"e\\u00e9\": |\n  f\n}\n? [g]\n: h\n";
  for (size_t size = 0; size <= text.size(); ++size) {
    YamlNode root;
    YamlError error;
    ParseYaml(text.substr(0, size), &root, &error);
  }
  YamlNode root;
  YamlError error;
  ParseYaml(std::string("\x00\xff\xfe\x80: \x01", 7), &root, &error);
}

}  // namespace
}  // namespace tandem::config
