// Comments and tests quote paragraphs of docs/engine.md by address: each address must exist there.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

namespace tandem::engine {
namespace {

std::string Read(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// "engine.<topic>.<name>", as in engine.invariants.tree.
std::set<std::string> Addresses(const std::string& text) {
  std::set<std::string> found;
  for (const char* topic : {"ownership", "planning", "cache", "events", "invariants"}) {
    const std::string prefix = std::string("engine.") + topic + ".";
    for (size_t at = text.find(prefix); at != std::string::npos; at = text.find(prefix, at + 1)) {
      const size_t end = text.find_first_not_of("abcdefghijklmnopqrstuvwxyz_", at + prefix.size());
      if (end > at + prefix.size()) found.insert(text.substr(at, end - at));
    }
  }
  return found;
}

TEST(EngineDocument, HasEveryAddressThatCodeQuotes) {
  const std::set<std::string> written = Addresses(Read("docs/engine.md"));
  ASSERT_GT(written.size(), 10u) << "run from the source tree";
  size_t quoted = 0;
  for (const char* folder : {"worker/engine", "tests/worker/engine"}) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      for (const std::string& address : Addresses(Read(entry.path()))) {
        ++quoted;
        EXPECT_TRUE(written.contains(address)) << entry.path() << " quotes " << address;
      }
    }
  }
  EXPECT_GT(quoted, 10u);
}

}  // namespace
}  // namespace tandem::engine
