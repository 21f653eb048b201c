// Comments and tests quote paragraphs of docs/engine.md by address: each address must exist there.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>

namespace tandem::engine {
namespace {

std::string Read(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::set<std::string> Addresses(const std::string& text) {
  static const std::regex address(
      R"(engine\.(ownership|planning|cache|events|invariants)\.[a-z_]+)");
  std::set<std::string> found;
  for (std::sregex_iterator it(text.begin(), text.end(), address), end; it != end; ++it) {
    found.insert(it->str());
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
