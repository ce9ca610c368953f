// Proofs eliminate the newest atom of a sum, either by an inequality on it or by its range, until a number is left: a
// restricted Fourier-Motzkin elimination (Schrijver 1986, "Theory of Linear and Integer
// Programming", 12.2). Inequalities on an atom contain only older ones, so the search ends.
#include "ir/loop/linear.h"

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <numeric>

namespace gradc::loop {

namespace {

constexpr int kMostSteps = 3000;  // of one search
constexpr int kMostChoices = 3;   // minima and maxima that one proof splits into cases

int64_t added(int64_t a, int64_t b) {
  int64_t r;
  if (__builtin_add_overflow(a, b, &r)) throw TooLarge{};
  return r;
}
int64_t multiplied(int64_t a, int64_t b) {
  int64_t r;
  if (__builtin_mul_overflow(a, b, &r)) throw TooLarge{};
  return r;
}
int64_t ceil_div(int64_t a, int64_t b) { return -floor_div(-a, b); }

template <class F>
Linear merged(const Linear& a, const Linear& b, F&& sign) {
  Linear r{added(a.constant, sign(b.constant)), {}};
  r.terms.reserve(a.terms.size() + b.terms.size());
  auto i = a.terms.begin();
  auto j = b.terms.begin();
  while (i != a.terms.end() || j != b.terms.end()) {
    if (j == b.terms.end() || (i != a.terms.end() && i->first < j->first)) {
      r.terms.push_back(*i++);
    } else if (i == a.terms.end() || j->first < i->first) {
      r.terms.emplace_back(j->first, sign(j->second));
      ++j;
    } else {
      const int64_t c = added(i->second, sign(j->second));
      if (c != 0) r.terms.emplace_back(i->first, c);
      ++i, ++j;
    }
  }
  return r;
}

}  // namespace

Linear Linear::atom(int number, int64_t coefficient) {
  return coefficient == 0 ? Linear{} : Linear{0, {{number, coefficient}}};
}

int64_t Linear::coefficient(int atom) const {
  for (const auto& [a, c] : terms)
    if (a == atom) return c;
  return 0;
}

Linear operator+(const Linear& a, const Linear& b) {
  return merged(a, b, [](int64_t v) { return v; });
}
Linear operator-(const Linear& a, const Linear& b) {
  return merged(a, b, [](int64_t v) { return -v; });
}
Linear operator*(const Linear& a, int64_t factor) {
  if (factor == 0) return {};
  Linear r = a;
  r.constant = multiplied(r.constant, factor);
  for (auto& [atom, c] : r.terms) c = multiplied(c, factor);
  return r;
}

Linear tightened(const Linear& sum) {
  int64_t common = 0;
  for (const auto& [atom, c] : sum.terms) common = std::gcd(common, std::abs(c));
  if (common <= 1) return sum;
  Linear r = sum;
  r.constant = floor_div(r.constant, common);
  for (auto& [atom, c] : r.terms) c /= common;
  return r;
}

Linear renumbered(const Linear& sum, int shared, int offset) {
  Linear r = sum;
  for (auto& [atom, c] : r.terms)
    if (atom >= shared) atom += offset;
  return r;
}

int Atoms::add(int64_t low, int64_t high) {
  atoms_.push_back({std::max(low, -kUnbounded), std::min(high, kUnbounded), {}, {}});
  return size() - 1;
}

void Atoms::require(const Linear& sum) {
  if (sum.is_constant()) return;
  Linear g = tightened(sum);
  std::vector<Linear>& known = atoms_[static_cast<size_t>(g.terms.back().first)].required;
  if (std::find(known.begin(), known.end(), g) != known.end()) return;
  known.push_back(std::move(g));
  found_.clear();
}

void Atoms::require_one(int atom, const Linear& a, const Linear& b) {
  atoms_[static_cast<size_t>(atom)].choices.emplace_back(tightened(a), tightened(b));
}

int Atoms::append(const Atoms& other, int shared) {
  const int offset = size() - shared;
  for (size_t i = static_cast<size_t>(shared); i < other.atoms_.size(); ++i) {
    const Atom& from = other.atoms_[i];
    Atom& to = atoms_.emplace_back(Atom{from.low, from.high, {}, {}});
    for (const Linear& g : from.required) to.required.push_back(renumbered(g, shared, offset));
    for (const auto& [a, b] : from.choices)
      to.choices.emplace_back(renumbered(a, shared, offset), renumbered(b, shared, offset));
  }
  return offset;
}

int64_t Atoms::least_by_ranges(const Linear& sum) const {
  __int128 total = sum.constant;
  for (const auto& [atom, c] : sum.terms) {
    const int64_t at = c > 0 ? low(atom) : high(atom);
    if (at <= -kUnbounded || at >= kUnbounded) return -kUnbounded;
    total += static_cast<__int128>(c) * at;
  }
  return total <= -kUnbounded ? -kUnbounded : total >= kUnbounded ? kUnbounded : static_cast<int64_t>(total);
}

// `turned`: an older atom has already been eliminated by an inequality on the newest.
int64_t Atoms::search(const Linear& sum, const std::vector<Linear>& facts, int turned, int& budget) const {
  int64_t best = least_by_ranges(sum);
  if (sum.terms.empty() || --budget < 0) return best;
  const auto [x, c] = sum.terms.back();
  // Eliminates an atom with coefficient `of` in the sum by adding a multiple of a sum that is not negative.
  const auto through = [&](const Linear& g, int64_t of, int64_t d, int next_turned) {
    if (d == 0 || (d > 0) != (of > 0)) return;
    const int64_t common = std::gcd(std::abs(of), std::abs(d)), a = std::abs(d) / common;
    try {
      const int64_t found = search(sum * a - g * (std::abs(of) / common), facts, next_turned, budget);
      if (found > -kUnbounded) best = std::max(best, ceil_div(found, a));
    } catch (const TooLarge&) {  // numbers too large this way
    }
  };
  for (const Linear& g : facts)
    if (g.terms.back().first == x) through(g, c, g.terms.back().second, -1);
  for (const Linear& g : required(x)) {
    through(g, c, g.terms.back().second, -1);
    // An older atom by the newest: a number by its quotient.
    if (turned != x && g.terms.size() == 2)
      through(g, sum.coefficient(g.terms.front().first), g.terms.front().second, x);
  }
  const int64_t at = c > 0 ? low(x) : high(x);
  if (at <= -kUnbounded || at >= kUnbounded) return best;
  try {
    Linear rest = sum;
    rest.terms.pop_back();
    rest.constant = added(rest.constant, multiplied(c, at));
    best = std::max(best, search(rest, facts, -1, budget));
  } catch (const TooLarge&) {
  }
  return best;
}

// Atoms that no inequality connects are bounded separately: the time of the search grows with the product of the
// choices for each.
int64_t Atoms::least(const Linear& sum, const std::vector<Linear>& facts, int64_t enough) const {
  if (const int64_t quick = least_by_ranges(sum); quick >= enough || sum.is_constant()) return quick;
  const std::vector<int> all = reached(sum, facts);  // newest first
  std::vector<int> part(all.size());
  std::iota(part.begin(), part.end(), 0);
  const auto position = [&](int atom) {
    return static_cast<size_t>(std::lower_bound(all.begin(), all.end(), atom, std::greater<>()) -
                               all.begin());
  };
  const auto root = [&](int atom) {
    size_t i = position(atom);
    while (part[i] != static_cast<int>(i)) i = static_cast<size_t>(part[i]);
    return i;
  };
  const auto join = [&](const Linear& g) {
    for (size_t t = 1; t < g.terms.size(); ++t)
      part[root(g.terms[t].first)] = static_cast<int>(root(g.terms[0].first));
  };
  for (const int atom : all)
    for (const Linear& g : required(atom)) join(g);
  std::vector<const Linear*> known;
  for (const Linear& f : facts)
    if (!f.is_constant() &&
        std::binary_search(all.begin(), all.end(), f.terms.back().first, std::greater<>())) {
      join(f);
      known.push_back(&f);
    }
  int64_t total = sum.constant;
  std::vector<bool> done(sum.terms.size(), false);
  for (size_t i = 0; i < sum.terms.size(); ++i) {
    if (done[i]) continue;
    const size_t own = root(sum.terms[i].first);
    Linear piece;
    for (size_t j = i; j < sum.terms.size(); ++j)
      if (root(sum.terms[j].first) == own) {
        piece.terms.push_back(sum.terms[j]);
        done[j] = true;
      }
    std::vector<Linear> of_piece;
    for (const Linear* f : known)
      if (root(f->terms.back().first) == own &&
          std::find(of_piece.begin(), of_piece.end(), *f) == of_piece.end())
        of_piece.push_back(*f);
    const int64_t found = least_of_piece(piece, of_piece);
    if (found <= -kUnbounded) return -kUnbounded;
    total = added(total, found);
  }
  return total;
}

int64_t Atoms::least_of_piece(const Linear& sum, const std::vector<Linear>& facts) const {
  if (sum.terms.size() == 1 && facts.empty() && required(sum.terms.front().first).empty())
    return least_by_ranges(sum);
  std::vector<int64_t> key;
  const auto append = [&](const Linear& g) {
    key.push_back(g.constant);
    for (const auto& [atom, c] : g.terms) key.insert(key.end(), {atom, c});
    key.push_back(-1);
  };
  append(sum);
  for (const Linear& f : facts) append(f);
  if (const auto it = found_.find(key); it != found_.end()) return it->second;
  int budget = kMostSteps;
  return found_[key] = search(sum, facts, -1, budget);
}

int64_t Atoms::greatest(const Linear& sum, const std::vector<Linear>& facts) const {
  return -least(sum * -1, facts);
}

// Atoms that a proof about the sum may need, newest first.
std::vector<int> Atoms::reached(const Linear& sum, const std::vector<Linear>& facts) const {
  std::vector<int> seen, open;
  const auto visit = [&](const Linear& g) {
    for (const auto& [atom, c] : g.terms)
      if (std::find(seen.begin(), seen.end(), atom) == seen.end()) {
        seen.push_back(atom);
        open.push_back(atom);
      }
  };
  visit(sum);
  while (!open.empty()) {
    const int atom = open.back();
    open.pop_back();
    const Atom& a = atoms_[static_cast<size_t>(atom)];
    for (const Linear& g : a.required) visit(g);
    for (const Linear& g : facts)
      if (!g.terms.empty() && g.terms.back().first == atom) visit(g);
  }
  std::sort(seen.rbegin(), seen.rend());
  return seen;
}

std::vector<Linear> Atoms::with_ranges(const Linear& sum, std::vector<Linear> facts) const {
  std::vector<int> all = reached(sum, facts);
  std::reverse(all.begin(), all.end());
  for (const int atom : all) {
    for (const auto& [a, b] : atoms_[static_cast<size_t>(atom)].choices) {
      if (least(a * -1 - 1, facts, 0) >= 0)
        facts.push_back(b);
      else if (least(b * -1 - 1, facts, 0) >= 0)
        facts.push_back(a);
    }
    if (required(atom).empty()) continue;
    const Linear a = Linear::atom(atom);
    const int64_t low_now = least(a, facts), high_now = greatest(a, facts);
    if (low_now > low(atom)) facts.push_back(a - low_now);
    if (high_now < high(atom)) facts.push_back(a * -1 + high_now);
  }
  return facts;
}

int64_t Atoms::least_by_cases(const Linear& sum, const std::vector<Linear>& facts, int choices) const {
  const int64_t found = least(sum, facts);
  if (choices == 0) return found;
  const auto known = [&](const Linear& g) { return std::find(facts.begin(), facts.end(), g) != facts.end(); };
  for (const int atom : reached(sum, facts))
    for (const auto& [a, b] : atoms_[static_cast<size_t>(atom)].choices) {
      if (known(a) || known(b)) continue;
      int64_t both = kUnbounded;
      for (const Linear* choice : {&a, &b}) {
        if (least(*choice * -1 - 1, facts, 0) >= 0) continue;  // it cannot be
        std::vector<Linear> more = facts;
        more.push_back(*choice);
        both = std::min(both, least_by_cases(sum, more, choices - 1));
      }
      return std::max(found, both);
    }
  return found;
}

bool Atoms::depends(const Linear& sum, int atom) const {
  const std::vector<int> all = reached(sum, {});
  return std::find(all.begin(), all.end(), atom) != all.end();
}

// Whether the facts contradict the inequalities on the atoms that the sum depends on.
bool Atoms::never(const Linear& sum, const std::vector<Linear>& facts) const {
  for (const int atom : reached(sum, facts))
    for (const Linear& g : required(atom))
      if (least(g * -1 - 1, facts, 0) >= 0) return true;
  return false;
}

bool Atoms::proves(const Linear& sum, const std::vector<Linear>& facts, int choices) const {
  if (least(sum, facts, 0) >= 0) return true;
  if (choices == 0) return false;
  const auto under = [&](const Linear& choice) {
    if (least(choice * -1 - 1, facts, 0) >= 0) return true;  // it cannot be
    std::vector<Linear> more = facts;
    more.push_back(choice);
    return proves(sum, more, choices - 1) || never(sum, more);
  };
  int tried = 0;
  for (const int atom : reached(sum, facts))
    for (const auto& [a, b] : atoms_[static_cast<size_t>(atom)].choices) {
      if (std::find(facts.begin(), facts.end(), a) != facts.end() ||
          std::find(facts.begin(), facts.end(), b) != facts.end())
        continue;  // it exists
      if (++tried > 2 * kMostChoices) return false;
      if (under(a) && under(b)) return true;
    }
  return false;
}

bool Atoms::proves(const Linear& sum, const std::vector<Linear>& facts) const {
  return proves(sum, facts, kMostChoices);
}

}  // namespace gradc::loop
