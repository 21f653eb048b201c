// The tiny model of each family against llama.cpp in float32, teacher-forced:
// tests/golden/README.md says how its logits were made.
#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/crc.hpp>
#include <boost/json.hpp>
#include <cmath>
#include <fstream>
#include <map>

#include "tests/support/tiny_model.h"
#include "tests/worker/model/script.h"
#include "worker/model/llama_runner.h"

namespace tandem::model {
namespace {

struct Golden {
  std::string family;
  uint32_t crc32 = 0;  // of the model file
  std::vector<TokenId> tokens;
  std::vector<int> positions;
  std::vector<std::vector<TokenId>> top_ids;
  std::vector<std::vector<double>> top_logits;  // after the tokens [0, position]
};

void PrintTo(const Golden& golden, std::ostream* out) { *out << golden.family; }

std::vector<Golden> LoadGolden() {
  std::vector<Golden> all;
  std::ifstream file("tests/golden/data/tiny_families.jsonl");
  for (std::string line; std::getline(file, line);) {
    using boost::json::value_to;
    const auto record = boost::json::parse(line);
    Golden& g = all.emplace_back();
    g.family = record.at("family").as_string().c_str();
    g.crc32 = record.at("crc32").to_number<uint32_t>();
    g.tokens = value_to<std::vector<TokenId>>(record.at("token_ids"));
    g.positions = value_to<std::vector<int>>(record.at("positions"));
    g.top_ids = value_to<std::vector<std::vector<TokenId>>>(record.at("top_ids"));
    g.top_logits = value_to<std::vector<std::vector<double>>>(record.at("top_logits"));
  }
  return all;
}

// The model of `family` in a file, for as long as this lives.
class FamilyFile {
 public:
  explicit FamilyFile(const std::string& family)
      : bytes_(tandem::testing::MakeTinyModel(Options(family))),
        path_(::testing::TempDir() + "tandem_family_" + family + "_" + std::to_string(getpid())) {
    std::ofstream file(path_, std::ios::binary);
    file.write(bytes_.data(), static_cast<std::streamsize>(bytes_.size()));
    file.close();
    TANDEM_CHECK(file.good()) << path_;
  }
  ~FamilyFile() { unlink(path_.c_str()); }
  const std::string& path() const { return path_; }
  uint32_t Crc32() const {
    boost::crc_32_type crc;
    crc.process_bytes(bytes_.data(), bytes_.size());
    return crc.checksum();
  }

 private:
  static tandem::testing::TinyModelOptions Options(const std::string& family) {
    tandem::testing::TinyModelOptions options = tandem::testing::TinyFamily(family);
    options.max_context = 2048;  // as tandem-make-tiny-model has it
    return options;
  }
  std::string bytes_, path_;
};

// Logits after each computed position that samples, of the sequence `sequence`.
using LogitsByPosition = std::map<int, std::vector<float>>;

// Takes what this rank has of the step's logits.
void Collect(LlamaRunner& runner, const TestPlan& plan, int rank, int tp, std::vector<int>& lengths,
             std::vector<LogitsByPosition>& out) {
  const kernels::TensorView logits = runner.logits();
  int sampled = 0;
  for (size_t r = 0; r < plan.rows.size(); ++r) {
    const int sequence = plan.sequences[r];
    lengths[sequence] += plan.rows[r].num_tokens;
    if (!(plan.rows[r].flags & kRowSample)) continue;
    if (sampled % tp == rank) {
      const float* row = logits.row(sampled / tp);
      out[sequence][lengths[sequence] - 1] = {row, row + logits.cols};
    }
    ++sampled;
  }
}

// Two sequences of the same tokens: one decodes from the 16th token on, one comes in chunks of 48.
std::vector<LogitsByPosition> Compute(const Golden& golden, const std::string& path, int tp) {
  ShardOptions options;
  options.model_path = path;
  options.activation_dtype = "f32";
  options.kv_cache_dtype = "f32";
  options.kv_memory_bytes = 64 << 20;
  options.max_seqs = 4;
  const auto& t = golden.tokens;
  const int total = static_cast<int>(t.size());
  const auto plans = MakeScript({{.prompt = {t.begin(), t.begin() + 16},
                                  .num_new = total - 15,
                                  .forced = {t.begin() + 16, t.end()}},
                                 {.prompt = {t.begin(), t.begin() + 128},
                                  .num_new = total - 127,
                                  .forced = {t.begin() + 128, t.end()},
                                  .chunk = 48}});
  std::vector<std::vector<LogitsByPosition>> by_rank(tp, std::vector<LogitsByPosition>(2));
  tandem::testing::SpawnRanks(tp, [&](kernels::Communicator& comm) {
    auto file = gguf::File::Open(options.model_path);
    TANDEM_CHECK(file.ok()) << Message(file.status());
    auto runner = LlamaRunner::Make(options, std::move(file).value(), comm);
    TANDEM_CHECK(runner.ok()) << Message(runner.status());
    TANDEM_CHECK((*runner)->Prepare(64).ok());
    std::vector<RowResult> results(options.max_seqs);
    std::vector<int> lengths(2, 0);
    for (size_t step = 0; step < plans.size(); ++step) {
      const Status status = (*runner)->Run(plans[step].View(step + 1), results);
      TANDEM_CHECK(status.ok()) << Message(status);
      Collect(**runner, plans[step], comm.rank(), tp, lengths, by_rank[comm.rank()]);
    }
  });
  for (int rank = 1; rank < tp; ++rank) {
    for (int s = 0; s < 2; ++s) by_rank[0][s].merge(by_rank[rank][s]);
  }
  return by_rank[0];
}

class GoldenFamilies : public ::testing::TestWithParam<Golden> {};

TEST_P(GoldenFamilies, LogitsAreLlamaCpps) {
  const Golden& golden = GetParam();
  const FamilyFile file(golden.family);
  ASSERT_EQ(file.Crc32(), golden.crc32)
      << "the generator writes another model: run tests/golden/make_families.py again";
  for (const int tp : {1, 2}) {
    const auto logits = Compute(golden, file.path(), tp);
    double most = 0;
    int compared = 0;
    for (size_t i = 0; i < golden.positions.size(); ++i) {
      for (const LogitsByPosition& sequence : logits) {
        const auto row = sequence.find(golden.positions[i]);
        if (row == sequence.end()) continue;
        for (size_t k = 0; k < golden.top_ids[i].size(); ++k, ++compared) {
          const double got = row->second[golden.top_ids[i][k]];
          most = std::max(most, std::abs(got - golden.top_logits[i][k]));
        }
      }
    }
    // All nine positions of the one sequence, the last three of the other, 16 logits each.
    EXPECT_EQ(compared, 12 * 16);
    RecordProperty("most_tp" + std::to_string(tp), std::to_string(most));
    EXPECT_LT(most, 1e-4) << "tp " << tp;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, GoldenFamilies, ::testing::ValuesIn(LoadGolden()),
                         [](const auto& info) {
                           std::string name = info.param.family;
                           std::erase(name, '-');
                           return name;
                         });

TEST(GoldenFamiliesData, IsThere) { EXPECT_EQ(LoadGolden().size(), 5u); }

}  // namespace
}  // namespace tandem::model
