# frozen_string_literal: true

# Strikes a swarm for some seconds, lets it come to rest, stops it, and says whether everything adds up: every start has
# exactly one end, all nodes are ready again, and no zombie, orphan or descriptor is left.

require "optparse"
require "tmpdir"
require "swarm_native"
require_relative "node"
require_relative "strikes"
require_relative "ledger"

options = { seconds: 20, seed: Random.new_seed % 1_000_000, nodes: 4, faults: nil }
OptionParser.new do |parser|
  parser.banner = "usage: bin/chaos [options]"
  parser.on("--seconds N", Float, "how long to strike (#{options[:seconds]})") { |value| options[:seconds] = value }
  parser.on("--faults N", Integer, "strike until so many faults were made instead") { |value| options[:faults] = value }
  parser.on("--seed N", Integer, "what chance is made of (any)") { |value| options[:seed] = value }
  parser.on("--nodes N", Integer, "how many nodes (#{options[:nodes]})") { |value| options[:nodes] = value }
end.parse!

module Chaos
  def self.now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

  # Quick to notice, and patient: nothing here is to end the swarm.
  SETTINGS = { report_interval: 0.1, report_timeout: 1.5, boot_timeout: 3, shutdown_timeout: 1, ready_after: 0.05,
               stable_after: 0.3, backoff_min: 0.01, backoff_max: 0.2, settle: 0.02, crash_loop_limit: 1_000_000,
               diagnose_timeout: 0.2, kill_grace: 10 }.freeze

  # How long the swarm may take to be whole again once nobody strikes: a hung node's timeouts, a full backoff, and what a
  # busy machine adds.
  REST = 30

  def self.run(seconds:, seed:, nodes:, faults:)
    SwarmNative.logger = nil
    puts "seed #{seed}"
    swarm = SwarmNative::Supervisor.new(nodes: nodes, **SETTINGS)
    ledger = Ledger.new(swarm)
    strikes = Strikes.new(swarm, Random.new(seed), nodes)
    striker = Thread.new { strike(swarm, strikes, ledger, faults ? nil : now + seconds, faults, nodes) }
    begin
      swarm.run { |node| Node.new(node, seed).work }
    rescue SwarmNative::ForcefulShutdown
      nil # a node that ignores TERM was killed to stop, as it should be
    end
    problems = striker.value + ledger.problems
    puts ledger.summary(strikes.made)
    puts problems.empty? ? "everything adds up" : problems.map { |problem| "PROBLEM: #{problem}" }
    exit problems.empty?
  end

  # @return [Array<String>] what was wrong at rest
  def self.strike(swarm, strikes, ledger, until_time, until_faults, nodes)
    strikes.strike_once until (until_time && now >= until_time) || (until_faults && strikes.made.sum { |_, n| n } >= until_faults)
    strikes.cease
    File.write(Node::TRUCE, "")
    problems = at_rest(swarm, nodes)
    problems
  rescue StandardError => e
    ["the striker failed: #{e.full_message(highlight: false)}"]
  ensure
    swarm.stop
  end

  def self.at_rest(swarm, nodes)
    deadline = now + REST
    sleep 0.01 until whole?(swarm, nodes) || now >= deadline
    whole?(swarm, nodes) ? [] : ["not all nodes are ready #{REST} s after the last strike: #{swarm.nodes.map(&:state)}"]
  end

  def self.whole?(swarm, nodes)
    swarm.nodes.first(nodes).all? { |node| node.state == :ready } && swarm.nodes.drop(nodes).all? { |node| node.state == :idle }
  end
end

Dir.mktmpdir("swarm-chaos") do |scratch|
  Dir.chdir(scratch) { Chaos.run(**options) }
end
