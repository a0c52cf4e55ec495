# frozen_string_literal: true

# The turnstile, off and on in turns in the same process, medians of the rounds. Ruby 3.3 or newer.

require_relative "support"
require_relative "../spec/support/test_gems"

if RUBY_VERSION < "3.3"
  puts "  turnstile: needs Ruby 3.3 or newer; this is #{RUBY_VERSION}"
  return
end

ROUNDS = Bench.times(5, 1)
SECONDS = Bench.times(2.0, 0.5)

def median(values)
  values.compact.sort[values.compact.size / 2]
end

# @return [Array<Hash>] a round each
def play(file, *arguments, env: {})
  command = [env, RbConfig.ruby, File.join(__dir__, "turnstile", file), *arguments.map(&:to_s)]
  lines = IO.popen(command, &:readlines)
  raise "#{file} #{arguments.join(" ")} failed" unless $?.success?

  lines.map { |line| JSON.parse(line, symbolize_names: true) }
end

def scene(name, busy: 0, light: 1, budget: 0.1, seconds: SECONDS)
  play("scenes.rb", name, busy, light, seconds, budget, ROUNDS)
end

# What the busy threads lost and how unequal they are, both at most 0.1 by the goals.
def report_work(name, rounds, goal)
  kept = median(rounds.map { |round| round[:on][:work] / round[:off][:work] })
  Bench.report("#{name}: work that busy threads lose", "share", 1 - kept, {}, goal: goal)
end

def milliseconds(rounds, side, key)
  value = median(rounds.map { |round| round.dig(side, key) })
  value && value * 1_000
end

def report_waits(name, rounds, goals)
  { p50: goals[0], p99: goals[1] }.each do |key, goal|
    Bench.report("#{name} #{key}", "ms", milliseconds(rounds, :on, key),
                 { "plain" => milliseconds(rounds, :off, key), "Thread#priority -3" => milliseconds(rounds, :low, key) }.compact,
                 goal: goal)
  end
end

{ [1, 1] => [0.25, 1.5], [8, 1] => [0.25, 1.5], [32, 1] => [0.25, 1.5], [1, 16] => [1, 5] }.each do |(busy, light), goals|
  name = "wake-up of #{light} light beside #{busy} busy"
  # In plain Ruby each light thread comes round once in busy * 100 ms.
  rounds = scene("wake_ups", busy: busy, light: light, seconds: [SECONDS, busy * 0.3].max)
  report_waits(name, rounds, goals)
  report_work(name, rounds, 0.1)
  unfair = 1 - median(rounds.map { |round| round[:on][:fair] })
  Bench.report("#{name}: least busy thread against the most, difference", "share", unfair, {}, goal: 0.1)
end
report_work("wake-up of 1 light beside 1 busy, budget 0.02", scene("wake_ups", busy: 1, budget: 0.02), 0.03)

{ 0.1 => 1.25, 0.5 => 0.25 }.each do |budget, goal|
  rounds = scene("round_trips", busy: 1, budget: budget)
  name = "a queue to and fro beside 1 busy, budget #{budget}"
  Bench.report("#{name}: a round trip", "ms", 1_000 / median(rounds.map { |round| round[:on][:rate] }),
               { "plain" => 1_000 / median(rounds.map { |round| round[:off][:rate] }) }, goal: goal)
  report_work(name, rounds, budget == 0.1 ? 0.1 : nil)
end

{ "1 thread alone" => 1, "16 threads of pure I/O" => 16 }.each do |name, threads|
  rounds = scene("pure_io", light: threads)
  Bench.report("#{name}: a round of write and read", "us",
               1_000_000 / median(rounds.map { |round| round[:on][:work] }),
               { "plain" => 1_000_000 / median(rounds.map { |round| round[:off][:work] }) }, ratio_goal: 1.01)
end

if TestGems.available?
  rounds = play("puma.rb", SECONDS, ROUNDS, env: Object.new.extend(TestGems).test_gems_env)
  { p50: 3, p99: 10 }.each do |key, goal|
    Bench.report("Puma beside a busy thread: request #{key}", "ms", milliseconds(rounds, :on, key),
                 { "plain" => milliseconds(rounds, :off, key) }, goal: goal)
  end
end
