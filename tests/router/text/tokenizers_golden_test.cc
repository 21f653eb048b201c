// Every pre-tokenizer and kind of vocabulary against the golden data of
// tests/golden/data/tokenizers: hashes of what Hugging Face's `tokenizers` made of 6,500 strings,
// 100 strings a hash. `tests/golden/make_tokenizers.py --dump NAME STRING` shows what is behind
// one.
#include <gtest/gtest.h>
#include <xxhash.h>

#include <boost/json.hpp>
#include <functional>

#include "common/tokenizer/tokenizer.h"
#include "common/tokenizer/tokenizer_json.h"
#include "common/tokenizer/utf8.h"
#include "router/text/stream_decoder.h"
#include "tests/common/gguf/gguf_builder.h"
#include "tests/router/text/golden.h"

namespace tandem::text {
namespace {

namespace json = boost::json;

constexpr size_t kChunk = 100;

const std::vector<std::string>& Texts() {
  static const std::vector<std::string> texts = [] {
    std::vector<std::string> result;
    for (const std::string& line : ReadGoldenLines("tokenizer_strings.tsv")) {
      result.push_back(Unescape(line.substr(line.find('\t') + 1)));
    }
    for (const std::string& line : ReadGoldenLines("tokenizers/hostile_strings.txt")) {
      result.push_back(Unescape(line));
    }
    return result;
  }();
  return texts;
}

json::value ReadJson(const std::string& name) {
  return json::parse(ReadGoldenFile("tokenizers/" + name));
}

// The case's changes over its base, as make_tokenizers.py has it.
json::object Apply(json::object base, const json::object& changes) {
  for (const char* key : {"normalizer", "pre_tokenizer", "decoder"}) {
    if (const json::value* value = changes.if_contains(key)) base[key] = *value;
  }
  if (const json::value* model = changes.if_contains("model")) {
    for (const auto& [key, value] : model->as_object()) {
      base["model"].as_object()[key] = value;
    }
  }
  const json::value* added = changes.if_contains("added_tokens");
  if (added == nullptr) return base;
  std::map<std::string, int64_t> known;
  const auto learn = [&](std::string_view text, int64_t id) { known.emplace(text, id); };
  for (const auto& [key, id] : base["model"].at("vocab").as_object()) learn(key, id.as_int64());
  json::array& list = base["added_tokens"].as_array();
  for (const json::value& token : list) {
    learn(token.at("content").as_string(), token.at("id").as_int64());
  }
  for (const json::value& token : added->as_array()) {
    int64_t next = 0;
    for (const auto& [text, id] : known) next = std::max(next, id + 1);
    json::object complete = token.as_object();
    const std::string text(complete["content"].as_string());
    complete["id"] = known.emplace(text, next).first->second;
    for (size_t i = 0; i < list.size(); ++i) {
      if (list[i].at("id") == complete["id"])
        list.erase(list.begin() + static_cast<ptrdiff_t>(i--));
    }
    list.push_back(std::move(complete));
  }
  return base;
}

class Hasher {
 public:
  Hasher() : state_(XXH3_createState()) { XXH3_64bits_reset(state_); }
  ~Hasher() { XXH3_freeState(state_); }
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;
  void Add(std::string_view bytes) {
    const auto size = static_cast<uint32_t>(bytes.size());
    XXH3_64bits_update(state_, &size, sizeof(size));
    XXH3_64bits_update(state_, bytes.data(), bytes.size());
  }
  std::string Hex() const { return fmt::format("{:016x}", XXH3_64bits_digest(state_)); }

 private:
  XXH3_state_t* state_;
};

// Of builds that are slow, some of the chunks.
#ifdef NDEBUG
constexpr size_t kEvery = 1;
#else
constexpr size_t kEvery = 13;
#endif

template <class Item>
std::vector<std::string> Hashes(const std::vector<Item>& items,
                                const std::function<std::string(const Item&)>& bytes_of) {
  std::vector<std::string> hashes;
  for (size_t begin = 0; begin < items.size(); begin += kChunk) {
    Hasher hasher;
    const bool skips = hashes.size() % kEvery != 0;
    for (size_t i = begin; !skips && i < std::min(items.size(), begin + kChunk); ++i) {
      hasher.Add(bytes_of(items[i]));
    }
    hashes.push_back(skips ? "" : hasher.Hex());
  }
  return hashes;
}

using Ids = std::vector<TokenId>;

std::string Pack(const Ids& ids) {
  return {reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(TokenId)};
}

std::string Valid(std::string_view bytes) {
  Utf8Stream utf8;
  std::string out;
  utf8.Push(bytes, out);
  utf8.Finish(out);
  return out;
}

std::string Streamed(const Tokenizer& tokenizer, const Ids& ids) {
  StreamDecoder decoder(tokenizer, {});
  std::string text;
  for (const TokenId id : ids) text += decoder.Push({&id, 1}).text;
  return text.append(decoder.Flush());
}

std::vector<Ids> RandomIds(int vocab_size) {
  std::vector<Ids> sequences(1000);
  uint64_t state = 1;
  const auto draw = [&](uint64_t limit) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<TokenId>((state >> 33) % limit);
  };
  for (Ids& ids : sequences) {
    ids.resize(1 + draw(24));
    for (TokenId& id : ids) id = draw(static_cast<uint64_t>(vocab_size));
  }
  return sequences;
}

class TokenizersGolden : public testing::Test {
 protected:
  TokenizersGolden() {
    for (const std::string& line : ReadGoldenLines("tokenizers/hashes.tsv")) {
      std::vector<std::string> fields = SplitAtTabs(line);
      golden_[{fields[0], fields[1]}] = {fields.begin() + 2, fields.end()};
    }
  }

  void Expect(const std::string& name, const std::string& what,
              const std::vector<std::string>& hashes) {
    const std::vector<std::string>& golden = golden_[{name, what}];
    ASSERT_EQ(hashes.size(), golden.size()) << name << ' ' << what;
    for (size_t i = 0; i < hashes.size(); i += kEvery) {
      EXPECT_EQ(hashes[i], golden[i])
          << name << ' ' << what << ": of " << i * kChunk << " to " << (i + 1) * kChunk - 1;
    }
    ++num_compared_;
  }

  void ExpectAll(const std::string& name, const Tokenizer& tokenizer) {
    const auto expect = [&](const std::string& what,
                            const std::function<std::string(const std::string&)>& bytes_of) {
      Expect(name, what, Hashes<std::string>(Texts(), bytes_of));
    };
    expect("encode", [&](const std::string& text) { return Pack(tokenizer.Encode(text)); });
    expect("plain", [&](const std::string& text) {
      return Pack(tokenizer.Encode(text, /*allow_special=*/false));
    });
    expect("decode", [&](const std::string& text) {
      const Ids ids = tokenizer.Encode(text);
      const std::string decoded = Valid(tokenizer.Decode(ids, /*with_special=*/false));
      EXPECT_EQ(Streamed(tokenizer, ids), decoded);
      return decoded;
    });
    expect("decode all", [&](const std::string& text) {
      return Valid(tokenizer.Decode(tokenizer.Encode(text)));
    });
    std::vector<Ids> random = RandomIds(tokenizer.vocab_size());
    if (name == "metaspace") {  // see make_tokenizers.py
      std::erase_if(random,
                    [&](const Ids& ids) { return tokenizer.TokenText(ids[0]).rfind(' ') + 1 > 1; });
    }
    Expect(name, "random",
           Hashes<Ids>(random, [&](const Ids& ids) { return Valid(tokenizer.Decode(ids)); }));
  }

  // Lengths and bytes of the pieces that a text is cut into.
  void ExpectPieces(const std::string& name, const TokenizerSpec& spec) {
    Expect(name, "pieces", Hashes<std::string>(Texts(), [&](const std::string& text) {
             std::string packed;
             PreTokenizer::Scratch scratch;
             spec.pre_tokenizer.Apply(
                 spec.normalizer.Apply(text), true, scratch, [&](std::string_view piece) {
                   const auto size = static_cast<uint32_t>(piece.size());
                   packed.append(reinterpret_cast<const char*>(&size), sizeof(size));
                   packed.append(piece);
                 });
             return packed;
           }));
  }

  std::map<std::pair<std::string, std::string>, std::vector<std::string>> golden_;
  int num_compared_ = 0;
};

TEST_F(TokenizersGolden, TokenizerJsonGivesWhatHuggingFaceDoes) {
  ASSERT_EQ(Texts().size(), 6500u);
  const json::value all = ReadJson("cases.json");
  for (const auto& [file, cases] : all.as_object()) {
    const json::value base = ReadJson(std::string(file));
    for (const auto& [name, changes] : cases.as_object()) {
      const TokenizerFiles files = {json::serialize(Apply(base.as_object(), changes.as_object())),
                                    "", ""};
      auto spec = ReadTokenizerJson(files);
      ASSERT_TRUE(spec.ok()) << name << ": " << spec.status();
      ExpectPieces(std::string(name), *spec);
      const auto tokenizer = Tokenizer::FromSpec(*std::move(spec), "test");
      ASSERT_TRUE(tokenizer.ok()) << name << ": " << tokenizer.status();
      ExpectAll(std::string(name), **tokenizer);
    }
  }
  EXPECT_EQ(num_compared_, 28 * 6);
}

// The same vocabulary in GGUF's form: strings, types and merges.
TEST_F(TokenizersGolden, GgufsPreTokenizersGiveTheSame) {
  const json::value base = ReadJson("byte_level.json");
  const json::object& vocab = base.at("model").at("vocab").as_object();
  std::vector<std::string> tokens(vocab.size()), merges;
  for (const auto& [text, id] : vocab) tokens[static_cast<size_t>(id.as_int64())] = text;
  std::vector<int32_t> types(tokens.size(), 1);
  for (const json::value& token : base.at("added_tokens").as_array()) {
    types[static_cast<size_t>(token.at("id").as_int64())] = 3;
  }
  for (const json::value& merge : base.at("model").at("merges").as_array()) {
    merges.push_back(std::string(merge.at(0).as_string()) + " " +
                     std::string(merge.at(1).as_string()));
  }
  const json::value cases = ReadJson("cases.json");
  for (const auto& [name, changes] : cases.at("byte_level.json").as_object()) {
    const json::value* gguf_name = changes.as_object().if_contains("gguf");
    if (gguf_name == nullptr) continue;
    gguf::GgufBuilder builder;
    builder.String("tokenizer.ggml.model", "gpt2");
    builder.String("tokenizer.ggml.pre", std::string_view(gguf_name->as_string()));
    builder.Strings("tokenizer.ggml.tokens", tokens).Ints("tokenizer.ggml.token_type", types);
    builder.Strings("tokenizer.ggml.merges", merges);
    const std::string bytes = builder.Build();
    const auto file = gguf::File::Parse(std::as_bytes(std::span(bytes)), "golden.gguf");
    ASSERT_TRUE(file.ok()) << file.status();
    const auto tokenizer = Tokenizer::FromGguf(**file);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    Expect(std::string(name), "encode", Hashes<std::string>(Texts(), [&](const std::string& text) {
             return Pack((*tokenizer)->Encode(text));
           }));
  }
  EXPECT_EQ(num_compared_, 10);
}

// GGUF's kind "llama" has SentencePiece's pieces and scores.
TEST_F(TokenizersGolden, GgufsSentencePieceGivesWhatGooglesDoes) {
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<int32_t> types;
  for (const std::string& line : ReadGoldenLines("tokenizers/pieces.tsv")) {
    const std::vector<std::string> fields = SplitAtTabs(line);
    tokens.push_back(Unescape(fields[0]));
    scores.push_back(std::stof(fields[1]));
    types.push_back(std::stoi(fields[2]));
  }
  gguf::GgufBuilder builder;
  builder.String("tokenizer.ggml.model", "llama").Floats("tokenizer.ggml.scores", scores);
  builder.Strings("tokenizer.ggml.tokens", tokens).Ints("tokenizer.ggml.token_type", types);
  builder.Uint32("tokenizer.ggml.bos_token_id", 1).Uint32("tokenizer.ggml.eos_token_id", 2);
  const std::string bytes = builder.Build();
  const auto file = gguf::File::Parse(std::as_bytes(std::span(bytes)), "golden.gguf");
  ASSERT_TRUE(file.ok()) << file.status();
  const auto tokenizer = Tokenizer::FromGguf(**file);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->prefix_ids()[0], 1);
  EXPECT_TRUE((*tokenizer)->suffix_ids().empty());
  Expect("sentencepiece", "encode", Hashes<std::string>(Texts(), [&](const std::string& text) {
           return Pack((*tokenizer)->Encode(text, /*allow_special=*/false));
         }));
}

}  // namespace
}  // namespace tandem::text
