// Changes text before it is cut into tokens, as a model's tokenizer was trained: steps in order.
// Unicode normalization and lower case are utf8proc's.
// Thread: immutable once built, any thread.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/tokenizer/regex.h"

namespace tandem::text {

class Normalizer {
 public:
  enum class Form { kNfc, kNfd, kNfkc, kNfkd };

  void AddForm(Form form);
  void AddLowercase();
  void AddPrepend(std::string what);                    // not before an empty text
  void AddReplace(std::string what, std::string with);  // REQUIRES: `what` is not empty
  void AddReplace(Regex what, std::string with);
  void AddStrip(bool left, bool right);  // white space at the ends

  bool empty() const { return steps_.empty(); }

  // Text that is not UTF-8 keeps its bytes: forms and lower case then do nothing.
  std::string Apply(std::string_view text) const;

 private:
  struct Lowercase {};
  struct Prepend {
    std::string what;
  };
  struct Replace {
    std::string what, with;
  };
  struct ReplaceMatches {
    Regex what;
    std::string with;
  };
  struct Strip {
    bool left, right;
  };
  using Step = std::variant<Form, Lowercase, Prepend, Replace, ReplaceMatches, Strip>;

  std::vector<Step> steps_;
};

}  // namespace tandem::text
