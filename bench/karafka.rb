# frozen_string_literal: true

# The consumption gap: from SIGKILL of a node of a Karafka swarm to the next message consumed from one of its
# partitions, on a real Apache Kafka, with static membership. Plain Karafka beside the drop-in, in one run. Besides, how
# often a swarm that has nothing to do wakes up.
#
#   KILLS=20 PLAIN_KILLS=3 bin/bench karafka

require "swarm_native"
require_relative "support"
require_relative "../spec/support/real_kafka"
require_relative "../spec/support/test_gems"

# One swarm, and what it says.
class KarafkaSwarm
  NODES = 3
  PARTITIONS = 6
  STABLE_AFTER = 0.5
  QUIET = Bench.times(10, 2)
  APP = File.join(__dir__, "karafka", "app.rb")

  attr_reader :pid

  def initialize(kafka, plain:)
    @topic = "gap-#{plain ? "plain" : "native"}"
    @lines = Queue.new
    @fetching = {}
    @producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": kafka.bootstrap_servers)
    produce
    start(kafka, plain)
  end

  # Until each partition has been consumed from by a node that lives.
  def settle(deadline = 60)
    due = Bench.now + deadline
    owners = {}
    until owners.size == PARTITIONS && owners.values.uniq.size == NODES && (owners.values - children).empty?
      raise "the swarm did not settle within #{deadline} s: #{owners}" if Bench.now > due

      word, pid, partition, = next_line(1)
      owners[partition.to_i] = pid.to_i if word == "consumed"
    end
    owners
  end

  # @return [Hash{Symbol => Float}] seconds since the KILL: of the fork, of the boot, of the fetch loop, of the message
  def kill_one
    owners = settle
    victim = owners.values.uniq.min_by { |pid| @fetching.fetch(pid) }
    # One that ends younger has failed to boot, and its replacement would wait.
    sleep [@fetching[victim] + STABLE_AFTER * 2 - Bench.now, 0].max
    lost = owners.select { |_, pid| pid == victim }.keys
    @lines.clear
    at = Bench.now
    Process.kill(:KILL, victim)
    seen = {}
    until seen[:consumed]
      word, pid, *more = next_line(120) || raise("nothing was consumed within 120 s")
      next if pid.to_i == victim || more.last.to_f < at
      next if word == "consumed" && !lost.include?(more.first.to_i)

      seen[word.to_sym] ||= more.last.to_f - at
    end
    seen
  end

  # @return [Float] MiB of supervisor and nodes together
  def memory
    [pid, *children].sum { |process| File.read("/proc/#{process}/smaps_rollup")[/^Pss:\s+(\d+)/, 1].to_i } / 1024.0
  end

  # While nothing is produced.
  # @return [Array<Integer>] the context switches of the supervisor, and of all nodes
  def idle
    @quiet = true
    # The rest is consumed once nothing has been for a second.
    nil while next_line(1)
    supervisor, *nodes = Bench.switches_while(QUIET, pid, *children)
    [supervisor, nodes.sum]
  ensure
    @quiet = false
  end

  # @return [Float] seconds
  def stop
    at = Bench.now
    Process.kill(:TERM, pid)
    Process.wait(pid)
    raise "the swarm ended with #{$?}" unless $?.success? # rubocop:disable Style/SpecialGlobalVars

    Bench.now - at
  ensure
    @stopped = true
    [@producing, @reading].each(&:join)
    @producer.close
  end

  private

  def children = File.read("/proc/#{pid}/task/#{pid}/children").split.map(&:to_i)

  def start(kafka, plain)
    output, input = IO.pipe
    TestGems.ensure_installed
    env = { "APP_PLAIN" => ("1" if plain), "APP_SERVERS" => kafka.bootstrap_servers, "APP_NODES" => NODES.to_s,
            "APP_TOPIC" => @topic, "APP_GROUP" => @topic, "APP_STABLE_AFTER" => STABLE_AFTER.to_s,
            "KARAFKA_ENV" => "production",
            "GEM_PATH" => [TestGems::HOME, ENV["GEM_PATH"].to_s].join(":") }
    @pid = spawn(env, RbConfig.ruby, APP, out: input, in: File::NULL)
    input.close
    @reading = Thread.new { output.each_line { |line| @lines << line } }
  end

  # 50 messages a second to each partition.
  def produce
    @producing = Thread.new do
      until @stopped
        sleep 0.02
        next if @quiet

        PARTITIONS.times { |partition| @producer.produce(topic: @topic, payload: "x", partition: partition) }
      end
    end
  end

  def next_line(timeout)
    due = Bench.now + timeout
    sleep 0.002 while @lines.empty? && Bench.now < due
    return if @lines.empty?

    @lines.pop.split.tap { |word, pid, at| @fetching[pid.to_i] = at.to_f if word == "fetching" }
  end
end

def measure(kafka, plain, kills)
  swarm = KarafkaSwarm.new(kafka, plain: plain)
  swarm.settle
  memory = swarm.memory
  idle = swarm.idle
  gaps = Array.new(kills) { swarm.kill_one }
  { memory: memory, idle: idle, gaps: gaps, stop: swarm.stop }
end

unless RealKafka.available? && TestGems.available?
  puts "  left out: it needs Java, Maven and the gems of #{TestGems::SOURCE}"
  exit
end

RealKafka.start(partitions: KarafkaSwarm::PARTITIONS) do |kafka|
  native = measure(kafka, false, Integer(ENV.fetch("KILLS", Bench.times(20, 2))))
  plain = measure(kafka, true, Integer(ENV.fetch("PLAIN_KILLS", Bench.times(3, 1))))
  gap = ->(run, what) { run[:gaps].filter_map { |seen| seen[what] } }
  median = ->(run, what) { Bench.percentile(gap.call(run, what), 50) }
  Bench.report("consumption gap, median", "s", median.call(native, :consumed),
               { "plain Karafka" => median.call(plain, :consumed) }, goal: 0.3)
  puts "  each gap of the drop-in's, s: #{gap.call(native, :consumed).map { |seconds| seconds.round(2) }.join(" ")}"
  Bench.report("consumption gap, max", "s", gap.call(native, :consumed).max,
               { "plain Karafka" => gap.call(plain, :consumed).max }, goal: 1.0)
  { forking: "until the fork", booting: "until the node boots", fetching: "until it fetches" }.each do |what, words|
    Bench.report("  of which #{words}, median", "s", median.call(native, what),
                 { "plain Karafka" => median.call(plain, what) }, goal: (0.1 if what == :booting))
  end
  ["idle supervisor", "its #{KarafkaSwarm::NODES} idle nodes"].each_with_index do |who, index|
    Bench.report("#{who}, #{KarafkaSwarm::QUIET} s", "context switches", native[:idle][index],
                 { "plain Karafka" => plain[:idle][index] })
  end
  Bench.report("memory of the swarm (PSS)", "MiB", native[:memory], { "plain Karafka" => plain[:memory] })
  Bench.report("shutdown", "s", native[:stop], { "plain Karafka" => plain[:stop] })
end
