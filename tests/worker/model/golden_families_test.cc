// A tiny model of each family against others' logits, teacher-forced, prefill in chunks and decode,
// on one and on two ranks: those that tests/support makes against llama.cpp, and every checkpoint
// in tests/golden/checkpoints against transformers. tests/golden/README.md says how the logits were
// made.
#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/crc.hpp>
#include <boost/json.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>

#include "tests/support/tiny_model.h"
#include "tests/worker/model/script.h"
#include "worker/model/llama_runner.h"

namespace tandem::model {
namespace {

struct Golden {
  std::string family;
  std::string path;    // of a checkpoint; empty: the model is made, and has this
  uint32_t crc32 = 0;  // of its file
  std::vector<TokenId> tokens;
  std::vector<int> positions;
  // By position: some ids' logits after the tokens [0, position].
  std::vector<std::vector<TokenId>> ids;
  std::vector<std::vector<double>> logits;
  std::vector<std::vector<double>> logits_bf16;  // computed in bfloat16; empty: not known
};

void PrintTo(const Golden& golden, std::ostream* out) { *out << golden.family; }

using Doubles = std::vector<std::vector<double>>;

Golden ReadGolden(const boost::json::value& record) {
  using boost::json::value_to;
  Golden g;
  g.tokens = value_to<std::vector<TokenId>>(record.at("token_ids"));
  g.positions = value_to<std::vector<int>>(record.at("positions"));
  return g;
}

std::vector<Golden> LoadMade() {
  std::vector<Golden> all;
  std::ifstream file("tests/golden/data/tiny_families.jsonl");
  for (std::string line; std::getline(file, line);) {
    const auto record = boost::json::parse(line);
    Golden& g = all.emplace_back(ReadGolden(record));
    g.family = record.at("family").as_string().c_str();
    g.crc32 = record.at("crc32").to_number<uint32_t>();
    g.ids = boost::json::value_to<std::vector<std::vector<TokenId>>>(record.at("top_ids"));
    g.logits = boost::json::value_to<Doubles>(record.at("top_logits"));
  }
  return all;
}

// NAME/ is a folder with golden.json; NAME.gguf has the weights of NAME.
std::vector<Golden> LoadCheckpoints() {
  std::vector<Golden> all;
  for (const auto& entry : std::filesystem::directory_iterator("tests/golden/checkpoints")) {
    std::filesystem::path folder = entry.path();
    Golden g;
    std::ifstream file(folder.replace_extension("") / "golden.json");
    std::stringstream text;
    text << file.rdbuf();
    const auto record = boost::json::parse(text.str());
    g = ReadGolden(record);
    g.path = entry.path();
    g.family = entry.path().filename();
    g.logits = boost::json::value_to<Doubles>(record.at("logits"));
    g.logits_bf16 = boost::json::value_to<Doubles>(record.at("logits_bf16"));
    std::vector<TokenId> ids(g.logits[0].size());
    std::iota(ids.begin(), ids.end(), 0);
    g.ids.assign(g.positions.size(), ids);
    all.push_back(std::move(g));
  }
  std::sort(all.begin(), all.end(),
            [](const Golden& a, const Golden& b) { return a.family < b.family; });
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
std::vector<LogitsByPosition> Compute(const Golden& golden, const std::string& path, int tp,
                                      const char* activation_dtype, const char* kv_cache_dtype) {
  ShardOptions options;
  options.model_path = path;
  options.activation_dtype = activation_dtype;
  options.kv_cache_dtype = kv_cache_dtype;
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
    auto file = ModelSource::Open(options.model_path);
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

// How far what was computed is from `expected`, at the positions that were computed.
struct Distance {
  double most = 0;      // |difference| of any logit
  double relative = 0;  // of all logits together, by Euclid
  int compared = 0;
};

Distance DistanceOf(const Golden& golden, const std::vector<LogitsByPosition>& computed,
                    const Doubles& expected) {
  Distance distance;
  double squares = 0, all = 0;
  for (size_t i = 0; i < golden.positions.size(); ++i) {
    for (const LogitsByPosition& sequence : computed) {
      const auto row = sequence.find(golden.positions[i]);
      if (row == sequence.end()) continue;
      for (size_t k = 0; k < golden.ids[i].size(); ++k, ++distance.compared) {
        const double off = row->second[golden.ids[i][k]] - expected[i][k];
        distance.most = std::max(distance.most, std::abs(off));
        squares += off * off;
        all += expected[i][k] * expected[i][k];
      }
    }
  }
  distance.relative = std::sqrt(squares / all);
  return distance;
}

// What one sequence decoded and the other read in chunks, in one batch: the same bits.
int PositionsOfEqualBits(const std::vector<LogitsByPosition>& computed) {
  int equal = 0;
  for (const auto& [position, row] : computed[0]) {
    const auto other = computed[1].find(position);
    if (other == computed[1].end()) continue;
    EXPECT_EQ(std::memcmp(row.data(), other->second.data(), row.size() * sizeof(float)), 0)
        << "position " << position;
    ++equal;
  }
  return equal;
}

class GoldenFamilies : public ::testing::TestWithParam<Golden> {};

TEST_P(GoldenFamilies, LogitsAreTheirs) {
  const Golden& golden = GetParam();
  std::optional<FamilyFile> made;
  if (golden.path.empty()) {
    made.emplace(golden.family);
    ASSERT_EQ(made->Crc32(), golden.crc32)
        << "the generator writes another model: run tests/golden/make_families.py again";
  }
  const std::string path = made ? made->path() : golden.path;
  for (const int tp : {1, 2}) {
    const auto computed = Compute(golden, path, tp, "f32", "f32");
    EXPECT_EQ(PositionsOfEqualBits(computed), 23);  // from the 128th token on
    const Distance exact = DistanceOf(golden, computed, golden.logits);
    // All nine positions of the one sequence, the last three of the other.
    EXPECT_EQ(exact.compared, 12 * golden.ids[0].size());
    RecordProperty("most_tp" + std::to_string(tp), std::to_string(exact.most));
    EXPECT_LT(exact.most, 1e-4) << "tp " << tp;
  }
  if (golden.logits_bf16.empty()) return;
  // "int8", the default: weights in BF16 multiply bf16.
  for (const char* activations : {"f32", "int8"}) {
    const auto computed = Compute(golden, path, 2, activations, "bf16");
    EXPECT_EQ(PositionsOfEqualBits(computed), 23);
    const Distance rounded = DistanceOf(golden, computed, golden.logits_bf16);
    RecordProperty(std::string("relative_bf16_") + activations, std::to_string(rounded.relative));
    EXPECT_LT(rounded.relative, 1e-2) << activations;
  }
}

std::string NameOf(const ::testing::TestParamInfo<Golden>& info) {
  std::string name = info.param.family;
  std::erase_if(name, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); });
  return name;
}
INSTANTIATE_TEST_SUITE_P(LlamaCpp, GoldenFamilies, ::testing::ValuesIn(LoadMade()), NameOf);
INSTANTIATE_TEST_SUITE_P(Transformers, GoldenFamilies, ::testing::ValuesIn(LoadCheckpoints()),
                         NameOf);

TEST(GoldenFamiliesData, IsThere) {
  EXPECT_EQ(LoadMade().size(), 5u);
  EXPECT_GE(LoadCheckpoints().size(), 17u);
}

}  // namespace
}  // namespace tandem::model
