# frozen_string_literal: true

require "swarm_native/turnstile"
require_relative "nudged"

RSpec.describe SwarmNative::Turnstile do
  it "is off until it is enabled, says what it is and why, and is off again once disabled" do
    result = run_ruby(<<~RUBY, deadline: 30)
      t = SwarmNative::Turnstile
      p t.enabled?, t.mode
      puts t.explain
      p t.enable == t.mode, t.enabled?
      puts t.explain
      p t.disable, t.enabled?, t.mode
      puts t.explain
      t.disable
    RUBY
    expect(result).to be_success, result.inspect
    on = if Nudged.possible?
           "all: on for all threads (budget 0.1, light 0.002 s, nudge_interval 5e-05 s)"
         else
           "own: only the waits of swarm_native ask for the GVL (budget 0.1, light 0.002 s, nudge_interval 5e-05 s), " \
           "because Ruby #{RUBY_VERSION} does not tell of other threads' waits; Ruby 3.3 and newer do"
         end
    expect(result.out.lines(chomp: true)).to eq(
      ["false", ":off", "off: Turnstile.enable was not called", "true", "true", on, "nil", "false", ":off",
       "off: Turnstile.disable was called"]
    )
  end

  it "is enabled twice as once, and takes other settings" do
    result = run_ruby(<<~RUBY, deadline: 30)
      t = SwarmNative::Turnstile
      nudgers = -> { Dir["/proc/self/task/*/comm"].count { |file| File.read(file) == "turnstile\\n" } }
      t.enable
      wait_until { nudgers.call == 1 }
      before = t.stats.time
      t.enable
      p t.stats.time >= before, nudgers.call
      t.enable(budget: 0.5, light: 0.001)
      wait_until { nudgers.call == 1 }
      puts t.explain[/\\(budget.*\\)/]
      t.enable(keep: 0.5)
      puts t.explain[/keep [0-9.]+/]
    RUBY
    expect(result).to be_success, result.inspect
    expect(result.out).to eq("true\n1\n(budget 0.5, light 0.001 s, nudge_interval 5e-05 s)\nkeep 0.5\n")
  end

  it "refuses bad values by name, and stays as it was" do
    {
      { budget: 0 } => [ArgumentError, "budget must be a share of the time, above 0 and at most 1, got 0"],
      { budget: 1.5 } => [ArgumentError, "budget must be a share of the time, above 0 and at most 1, got 1.5"],
      { budget: nil } => [TypeError, "budget must be a number, got nil (NilClass)"],
      { light: "2ms" } => [TypeError, 'light must be a number, got "2ms" (String)'],
      { light: 1 } => [ArgumentError, "light must be seconds from 0.0001 to 0.1, got 1"],
      { nudge_interval: -1 } => [ArgumentError, "nudge_interval must be seconds from 0.00001 to 0.01, got -1"],
      { keep: 1 } => [ArgumentError, "keep must be a share of the time from 0 to 0.99, got 1"]
    }.each do |settings, (error, message)|
      expect { described_class.enable(**settings) }.to raise_error(error, message)
    end
    expect(described_class).not_to be_enabled
  end

  it "classifies living threads only" do
    thread = Thread.new { sleep }
    expect(described_class.light!(thread)).to be(thread)
    expect(described_class.heavy!(thread)).to be(thread)
    expect(described_class.auto!(thread)).to be(thread)
    thread.kill.join
    expect { described_class.light!(thread) }.to raise_error(ArgumentError, /has ended/)
    expect { described_class.heavy!(1) }.to raise_error(TypeError, "expected a Thread, got 1 (Integer)")
  end

  it "measures a block, and only while it is on" do
    expect { described_class.measure { nil } }.to raise_error(SwarmNative::Error, /needs it on; it is off/)
    result = run_ruby(<<~RUBY, deadline: 30)
      t = SwarmNative::Turnstile
      t.enable
      stats = t.measure { sleep 0.01 }
      p stats.time.between?(0.009, 20), stats.share, stats.nudges
    RUBY
    expect(result).to be_success, result.inspect
    expect(result.out.lines.first).to eq("true\n")
  end

  it "tells the waits by percent" do
    stats = described_class::Stats.new(waits: { 0.000_1 => 98, 0.01 => 1, 0.1 => 1 }, lost: 1.0, time: 4.0)
    expect([stats.wait(50), stats.wait(98), stats.wait(99), stats.wait(100)]).to eq([0.000_1, 0.000_1, 0.01, 0.1])
    expect(stats.share).to eq(0.25)
    expect { stats.wait(101) }.to raise_error(ArgumentError, "percent must be from 0 to 100, got 101")
  end

  # Forks, and runs a block in the midst of it, as a hook of another gem may have others run.
  inside = <<~'RUBY'
    module Inside
      def _fork
        inside, $inside = $inside, nil
        inside&.call
        super
      end
    end
    Process.singleton_class.prepend(Inside)
    require "swarm_native/turnstile"
    T = SwarmNative::Turnstile
    # @return [Boolean] whether it is on in the child
    def on_in_child?(&inside)
      $inside = inside
      Process.wait2(fork { exit!(T.enabled? ? 0 : 1) }).last.success?
    end
  RUBY

  it "can be switched off and on by another thread in the midst of a fork" do
    result = run_ruby(<<~RUBY, deadline: 30, library: nil)
      #{inside}
      T.enable
      p on_in_child? { Thread.new { T.disable }.join }, T.enabled?
      puts T.explain
      p on_in_child? { Thread.new { T.enable(budget: 0.5) }.join }, T.enabled?
      puts T.explain[/budget [0-9.]+/]
    RUBY
    expect(result).to be_success, result.inspect
    expect(result.out).to eq("false\nfalse\noff: Turnstile.disable was called\ntrue\ntrue\nbudget 0.5\n")
  end

  it "is on in the children of threads that fork at once, and in their parent" do
    result = run_ruby(<<~RUBY, deadline: 30, library: nil)
      #{inside}
      T.enable
      other = nil
      p on_in_child? { Thread.new { other = on_in_child? }.join }, other, T.enabled?
    RUBY
    expect(result).to be_success, result.inspect
    expect(result.out).to eq("true\ntrue\ntrue\n")
  end

  it "pauses in a supervisor's process, and is on in its nodes" do
    result = run_ruby(<<~RUBY, deadline: 60)
      t = SwarmNative::Turnstile
      on = t.enable
      reader, writer = IO.pipe
      supervisor = SwarmNative::Supervisor.new(nodes: 1)
      supervisor.on(:node_ready) do
        writer.puts [t.mode, t.explain].inspect
        supervisor.stop
      end
      supervisor.run do |node|
        writer.puts [:node, t.mode == on].inspect
        node.ready
        node.wait
      end
      writer.close
      puts reader.read
      p t.mode == on
    RUBY
    expect(result).to be_success, result.inspect
    paused = [:off, "off: paused while this process runs a supervisor, whose nodes have it on"]
    expect(result.out).to eq("[:node, true]\n#{paused.inspect}\ntrue\n")
  end
end

if Nudged.possible?
  RSpec.describe SwarmNative::Turnstile, "in the mode :all" do
    include Nudged

    it "lets light threads through and nudges the heavy ones for them" do
      result = run_nudged(<<~RUBY)
        stats = Turnstile.measure { wait_until(60) { Turnstile.stats.wake_ups > 500 } }
        p stats.nudges > 50, stats.wait(50) < 0.1, stats.lost.positive?
      RUBY
      expect(result).to be_success, result.inspect
      expect(result.out).to eq("true\ntrue\ntrue\n")
    end

    it "lets no thread that is heavy by hand pass others, and none pass one that is light by hand" do
      result = run_ruby(<<~RUBY, deadline: 60)
        #{Nudged::PRELUDE}
        rounds = 0
        waiter = Turnstile.heavy!(Thread.new { loop { sleep 0.000_5; rounds += 1 } })
        Turnstile.heavy!(Thread.main)
        Turnstile.enable(light: 0.000_1)
        busy = Thread.new { loop { spin } }
        wait_until(60) { Turnstile.stats.heavy >= 3 }
        during = lambda do |count|
          before, start = Turnstile.stats, rounds
          wait_until(60) { rounds > start + count }
          Turnstile.stats.since(before)
        end
        # Each time it waits for a whole timeslice, of 0.1 s, where it would else for less than a millisecond.
        p during.call(20).time > 1
        Turnstile.light!(busy)
        Turnstile.light!(Thread.main)
        Turnstile.light!(waiter)
        seen = during.call(20)
        p seen.time > 1, seen.wake_ups >= 4
        Turnstile.auto!(busy)
        p during.call(200).nudges > 50
      RUBY
      expect(result).to be_success, result.inspect
      expect(result.out).to eq("true\ntrue\ntrue\ntrue\n")
    end
  end
else
  RSpec.describe SwarmNative::Turnstile, "in the mode :own", :kafka do
    it "asks for the GVL when a wait of the gem comes back, and whoever has it hands it over" do
      result = run_ruby(<<~RUBY, deadline: 60)
        t = SwarmNative::Turnstile
        t.enable(budget: 1)
        busy = 2.times.map { Thread.new { loop { 1 + 1 } } }
        consumer = SwarmNative::Kafka::Consumer.new("bootstrap.servers": "127.0.0.1:1", "group.id": "nobody")
        stats = t.measure { 100.times { consumer.poll_batch(1, 0.001) } }
        # One whose time was over before it began has not waited.
        p stats.wake_ups.between?(80, 100), stats.nudges >= 50, stats.wait(50) < 0.1, stats.lost.positive?
        pid = fork { exit!(t.mode == :own ? 7 : 8) } if consumer.close || true
        p Process.wait2(pid).last.exitstatus
        busy.each(&:kill)
      RUBY
      expect(result).to be_success, result.inspect
      expect(result.out).to eq("true\ntrue\ntrue\ntrue\n7\n")
    end
  end
end
