#include "common/grammar/grammar.h"

#include <boost/json.hpp>
#include <utility>
#include <vector>

#include "common/grammar/ebnf.h"
#include "common/grammar/json_schema.h"
#include "common/grammar/regex.h"

namespace tandem::grammar {
namespace {

constexpr size_t kMaxBytes = 1 << 20;
constexpr size_t kMaxParts = 4;  // of a sequence

StatusOr<RuleId> ParseChoice(std::string_view text, Rules& rules) {
  boost::json::error_code error;
  const boost::json::value list = boost::json::parse({text.data(), text.size()}, error);
  if (error || !list.is_array() || list.get_array().empty()) {
    return InvalidArgument("the choices are a list of strings");
  }
  std::vector<ExprId> choices;
  for (const boost::json::value& choice : list.get_array()) {
    if (!choice.is_string() || choice.get_string().empty()) {
      return InvalidArgument("a choice is a string that is not empty");
    }
    choices.push_back(rules.Literal({choice.get_string().data(), choice.get_string().size()}));
  }
  const RuleId rule = rules.AddRule("choice");
  rules.Define(rule, rules.Choice(std::move(choices)));
  return rule;
}

StatusOr<RuleId> ParseWholeRegex(std::string_view text, Rules& rules) {
  TANDEM_ASSIGN_OR_RETURN(const ExprId body, ParseRegex(text, {}, rules));
  const RuleId rule = rules.AddRule("regex");
  rules.Define(rule, body);
  return rule;
}

StatusOr<RuleId> Parse(const GrammarSpec& spec, Rules& rules);

StatusOr<RuleId> ParseSequence(std::string_view text, Rules& rules) {
  boost::json::error_code error;
  const boost::json::value list = boost::json::parse({text.data(), text.size()}, error);
  const auto wrong = [] {
    return InvalidArgument("a sequence is a list of 1 to {} grammars", kMaxParts);
  };
  if (error || !list.is_array()) return wrong();
  const boost::json::array& specs = list.get_array();
  if (specs.empty() || specs.size() > kMaxParts) return wrong();
  std::vector<ExprId> parts;
  for (const boost::json::value& value : specs) {
    const boost::json::object* object = value.if_object();
    const boost::json::value* kind = object == nullptr ? nullptr : object->if_contains("kind");
    const boost::json::value* part = object == nullptr ? nullptr : object->if_contains("text");
    if (kind == nullptr || !kind->is_int64() || part == nullptr || !part->is_string())
      return wrong();
    const int64_t number = kind->get_int64();
    if (number <= 0 || number >= static_cast<int64_t>(GrammarSpec::Kind::kSequence)) return wrong();
    TANDEM_ASSIGN_OR_RETURN(
        const RuleId rule,
        Parse({static_cast<GrammarSpec::Kind>(number), std::string(part->get_string())}, rules));
    parts.push_back(rules.Rule(rule));
  }
  const RuleId rule = rules.AddRule("sequence");
  rules.Define(rule, rules.Sequence(std::move(parts)));
  return rule;
}

StatusOr<RuleId> ParseKind(const GrammarSpec& spec, Rules& rules);

StatusOr<RuleId> Parse(const GrammarSpec& spec, Rules& rules) {
  TANDEM_ASSIGN_OR_RETURN(const RuleId root, ParseKind(spec, rules));
  TANDEM_RETURN_IF_ERROR(rules.CheckSize());
  return root;
}

StatusOr<RuleId> ParseKind(const GrammarSpec& spec, Rules& rules) {
  if (spec.text.size() > kMaxBytes) {
    return InvalidArgument("a grammar or schema of {} bytes; {} are allowed", spec.text.size(),
                           kMaxBytes);
  }
  switch (spec.kind) {
    case GrammarSpec::Kind::kJsonObject:
      return AnyJsonObject(rules);
    case GrammarSpec::Kind::kJsonSchema:
      return ParseJsonSchema(spec.text, rules);
    case GrammarSpec::Kind::kRegex:
      return ParseWholeRegex(spec.text, rules);
    case GrammarSpec::Kind::kChoice:
      return ParseChoice(spec.text, rules);
    case GrammarSpec::Kind::kEbnf:
      return ParseEbnf(spec.text, rules);
    case GrammarSpec::Kind::kSequence:
      return ParseSequence(spec.text, rules);
    case GrammarSpec::Kind::kNone:
      break;
  }
  return InvalidArgument("no such kind of grammar: {}", static_cast<int>(spec.kind));
}

}  // namespace

Status CheckGrammar(const GrammarSpec& spec) {
  Rules rules;
  return Parse(spec, rules).status();
}

StatusOr<Automaton> CompileGrammar(const GrammarSpec& spec) {
  Rules rules;
  TANDEM_ASSIGN_OR_RETURN(const RuleId root, Parse(spec, rules));
  return MakeAutomaton(rules, root);
}

}  // namespace tandem::grammar
