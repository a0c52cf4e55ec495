# frozen_string_literal: true

require "support/karafka_app"

RSpec.describe "the drop-in's watch over nodes", :karafka, :kafka, :test_gems do
  # The first incarnation of a node does something, its replacement does not.
  def once(code)
    <<~RUBY
      Karafka.monitor.subscribe("app.running") do
        Thread.new { #{code} } unless File.exist?("done").tap { File.write("done", "") }
      end
    RUBY
  end

  it "replaces a node that reports a code above 0, with Karafka's event and its status" do
    result = run_karafka(once("sleep 0.2; Karafka::App.config.swarm.node.unhealthy(7)")) do |app|
      app.wait_until_fetching(2)
      app.signal("TERM")
    end
    expect(result.out).to match(/^swarm\.manager\.stopping #{result.status.pid} 7,0$/)
    expect(result.out).to match(/^native\.node_exited \d+ unhealthy\(7\) .*\(exit 0\)/)
    expect(result.status.exitstatus).to eq(0)
  end

  it "replaces a node that does not report at its deadline, not at a later look" do
    setup = <<~RUBY
      Karafka::App.config.internal.swarm.node_report_timeout = 1_500
      Karafka::App.config.internal.swarm.liveness_interval = 100
      Karafka::App.config.internal.swarm.supervision_interval = 60_000
    RUBY
    result = run_karafka(setup) do |app|
      first = app.wait_until_fetching(1).first
      app.wait_until_ready
      Process.kill(:STOP, first)
      app.wait_for(/^swarm\.manager\.stopping \d+ -1,0$/)
      app.wait_until_fetching(2)
      app.signal("TERM")
    end
    expect(result.out).to match(/^native\.node_exited \d+ hung/)
    expect(result.status.exitstatus).to eq(0)
  end

  it "leaves healthy nodes alone where librdkafka's statistics are switched off, also during a long job" do
    setup = <<~RUBY
      Karafka::App.config.internal.swarm.node_report_timeout = 1_000
      Karafka::App.config.internal.swarm.liveness_interval = 100
      Karafka::App.config.internal.tick_interval = 200
      Karafka::App.config.kafka[:"statistics.interval.ms"] = 0
      class Consumer
        def consume = (sleep 2.5; say "consumed", Process.pid)
      end
    RUBY
    topic = new_topic(partitions: 2)
    produce(topic, 1)
    result = run_karafka(setup, topic: topic) do |app|
      app.wait_for(/^consumed/)
      app.signal("TERM")
    end
    expect(result.out).not_to include("swarm.manager.stopping")
    expect(result.out.scan(/^fetching/).size).to eq(1)
  end

  it "waits longer and longer for a node that cannot boot, and never takes it for ready" do
    setup = <<~RUBY
      Karafka::App.config.internal.swarm.node_restart_timeout = 100
      Karafka.monitor.subscribe("swarm.node.after_fork") { raise "no database" }
    RUBY
    result = run_karafka(setup) do |app|
      wait_until(KarafkaApp::PATIENCE, "three boots") { app.lines("native.node_exited").size == 3 }
      app.signal("TERM")
    end
    expect(result.status.exitstatus).to eq(0)
    expect(result.out).not_to include("native.node_ready")
    waits = result.out.scan(/^native\.node_exited .*replaced in (\d+) ms/).flatten.map(&:to_i)
    expect(waits.size).to eq(3)
    expect(waits).to eq(waits.sort)
    expect(waits.first).to be >= 100
    expect(result.out).to include("no database")
  end

  it "kills what does not stop within its time, and ends with exit code 2 and Karafka's error" do
    setup = <<~RUBY
      Karafka::App.config.shutdown_timeout = 1_000
      Karafka::App.config.internal.respond_to?(:forceful_shutdown_wait) &&
        Karafka::App.config.internal.forceful_shutdown_wait = 0
      Karafka::Swarm::Supervisor.send(:remove_const, :SHUTDOWN_GRACE_PERIOD)
      Karafka::Swarm::Supervisor.const_set(:SHUTDOWN_GRACE_PERIOD, 500)
      Karafka.monitor.subscribe("app.running") { trap("TERM", "IGNORE"); say "deaf" }
    RUBY
    result = run_karafka(setup) do |app|
      app.wait_for(/^deaf/)
      app.wait_until_fetching(1)
      app.signal("TERM")
    end
    expect(result.status.exitstatus).to eq(2)
    expect(result.out).to match(/^native\.node_killed \d+ stopped/)
    expect(result.out).to match(/^error\.occurred #{result.status.pid} app\.stopping\.error/)
  end

  it "takes nodes with it when the supervisor is killed, also one whose GVL is held" do
    setup = <<~'RUBY'
      Karafka.monitor.subscribe("app.running") do
        Thread.new do
          require "fiddle"
          types = [Fiddle::TYPE_INT, Fiddle::TYPE_DOUBLE]
          jn = Fiddle::Function.new(Fiddle.dlopen("libm.so.6")["jn"], types, Fiddle::TYPE_DOUBLE, need_gvl: true)
          sleep 0.1 until File.exist?("hold")
          say "holding", Process.pid
          jn.call((2**31) - 1, 1e10)
        end
      end
    RUBY
    run_karafka(setup, nodes: 2) do |app|
      nodes = app.wait_until_fetching(2)
      File.write(File.join(app.process.scratch, "hold"), "")
      wait_until(KarafkaApp::PATIENCE, "both hold the GVL") { app.lines("holding").size == 2 }
      handles = nodes.map { |pid| SwarmNative::Pidfd.new(pid) }
      app.signal("KILL")
      expect(handles.map { |handle| handle.wait(15) }).not_to include(nil)
    end
  end

  it "has the policy of the supervisor beyond Karafka's: a node that grows too large is replaced" do
    setup = <<~RUBY
      SwarmNative::Karafka.setup do |config|
        config.memory_limit = 300 * 1024 * 1024
        config.memory_interval = 0.1 if config.respond_to?(:memory_interval=)
      end
      #{once('$ballast = "x" * (400 * 1024 * 1024)')}
    RUBY
    result = run_karafka(setup) do |app|
      app.wait_until_fetching(2)
      app.signal("TERM")
    end
    expect(result.out).to match(/^native\.node_exited \d+ memory_limit/)
  end
end
