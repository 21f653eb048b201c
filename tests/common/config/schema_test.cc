#include "common/config/schema.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "common/config/cluster_config.h"

namespace tandem::config {
namespace {

std::string ReadText(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

TEST(Schema, KeysAreUniqueAndInKnownSections) {
  std::set<std::string> seen;
  for (const Key& key : Keys()) {
    EXPECT_TRUE(seen.insert(fmt::format("{}.{}", key.section, key.name)).second) << key.name;
    bool known = false;
    for (const Section& section : Sections()) known |= section.path == key.section;
    EXPECT_TRUE(known) << key.section;
    EXPECT_FALSE(key.help.empty()) << key.name;
  }
}

// A default outside its own range could not be written into a file.
TEST(Schema, DefaultsAreInRange) {
  for (const Key& key : Keys()) {
    Cluster cluster;
    Entries entries;
    const Field field = key.field(entries.Of(cluster));
    int64_t value = 0;
    if (const auto* narrow = std::get_if<int*>(&field)) {
      value = **narrow;
    } else if (const auto* wide = std::get_if<int64_t*>(&field)) {
      value = **wide;
    } else {
      continue;
    }
    if (value == 0 && !key.zero.empty()) continue;
    EXPECT_GE(value, key.min) << key.name;
    EXPECT_LE(value, key.max) << key.name;
    EXPECT_EQ(value % key.multiple, 0) << key.name;
  }
}

TEST(Schema, EachKeySetsAFieldOfItsOwn) {
  Cluster cluster;
  Entries entries;
  std::set<const void*> fields;
  for (const Key& key : Keys()) {
    const Field field = key.field(entries.Of(cluster));
    const void* place = nullptr;
    if (const auto* address = std::get_if<AddressField>(&field)) place = address->port;
    if (const auto* p = std::get_if<int*>(&field)) place = *p;
    if (const auto* p = std::get_if<int64_t*>(&field)) place = *p;
    if (const auto* p = std::get_if<bool*>(&field)) place = *p;
    if (const auto* p = std::get_if<std::vector<int>*>(&field)) place = *p;
    if (const auto* p = std::get_if<std::string*>(&field)) place = *p;
    if (const auto* p = std::get_if<std::vector<std::string>*>(&field)) place = *p;
    EXPECT_TRUE(fields.insert(place).second) << key.section << "." << key.name;
  }
}

// Working directory: the repository's root (tandem_test).
TEST(Schema, TheDocumentHoldsTheReference) {
  const std::string document = ReadText("docs/cluster_file.md");
  ASSERT_FALSE(document.empty());
  EXPECT_NE(document.find(Reference()), std::string::npos)
      << "docs/cluster_file.md differs from the schema; its tables are the output of "
         "`tandem keys`:\n"
      << Reference();
}

TEST(Schema, ExamplesAreValid) {
  for (const char* path :
       {"configs/quickstart.yaml", "configs/one_machine.yaml", "configs/two_models.yaml"}) {
    const auto cluster = Parse(ReadText(path), path);
    EXPECT_TRUE(cluster.ok()) << Message(cluster.status());
  }
}

TEST(Schema, QuickstartIsOneRankOnPort8000) {
  const auto cluster = Parse(ReadText("configs/quickstart.yaml"), "configs/quickstart.yaml");
  ASSERT_TRUE(cluster.ok());
  ASSERT_EQ(cluster->groups.size(), 1u);
  EXPECT_EQ(cluster->groups[0].tp, 1);
  EXPECT_EQ(cluster->groups[0].threads, 0) << "auto: all cores";
  EXPECT_EQ(cluster->router.listen_host, "127.0.0.1");
  EXPECT_EQ(cluster->router.listen_port, 8000);
}

}  // namespace
}  // namespace tandem::config
