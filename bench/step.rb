# frozen_string_literal: true

# What the rules cost: one step of the state machines, for swarms of 10 to 10,000 nodes. A step is to cost as much as the
# nodes that it concerns, not as much as all of them. What it does cost more in a large swarm is memory that is in no cache.

require_relative "support"

lines = IO.popen([Bench.cargo_example("step"), Bench.times(2_000, 5).to_s], &:readlines)
figures = lines.map(&:split).group_by { |_, kind, _| kind }
raise "the example step has ended before its time" unless figures.size == 3

figures.each do |kind, rows|
  costs = rows.to_h { |nodes, _, nanoseconds| [Integer(nodes), Float(nanoseconds)] }
  (small, cost), *larger = costs.to_a
  Bench.report("step of a #{kind}, #{small} nodes", "ns", cost)
  # 10 times is what a walk over the nodes would exceed at 100 of them.
  larger.each do |nodes, more|
    Bench.report("step of a #{kind}, #{nodes} nodes", "ns", more, { "#{small} nodes" => cost }, ratio_goal: 10)
  end
end
