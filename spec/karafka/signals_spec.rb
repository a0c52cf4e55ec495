# frozen_string_literal: true

require "net/http"
require "socket"
require "support/karafka_app"

RSpec.describe "the drop-in's signals", :karafka, :kafka, :test_gems do
  it "runs what users have trapped, once, in the supervisor and in nodes, restarted ones too" do
    setup = 'trap("TERM") { say "trapped", Process.pid }'
    result = run_karafka(setup, nodes: 2) do |app|
      killed = app.wait_until_fetching(2).first
      app.wait_until_ready(2)
      Process.kill(:KILL, killed)
      app.wait_until_fetching(3)
      app.wait_until_ready(3)
      @running = [app.pid, *app.children]
      app.signal("TERM")
    end
    expect(result.status.exitstatus).to eq(0)
    expect(result.out.scan(/^trapped (\d+)$/).flatten.map(&:to_i)).to match_array(@running)
    expect(result.out.scan(/^process\.notice_signal (\d+) SIGTERM$/).flatten.map(&:to_i)).to match_array(@running)
    expect(result.out).to match(/^process\.notice_signal #{result.status.pid} SIGCHLD$/)
  end

  it "stops on a TERM that comes before Karafka's own handlers" do
    setup = <<~'RUBY'
      supervisor = Process.pid
      Karafka.monitor.subscribe("swarm.manager.after_fork") { Process.kill(:TERM, supervisor) if Process.pid == supervisor }
    RUBY
    result = run_karafka(setup, nodes: 2) { nil }
    expect(result.status.exitstatus).to eq(0)
    expect(result.out).to match(/^process\.notice_signal #{result.status.pid} SIGTERM$/)
    expect(result.out).to match(/^app\.terminated #{result.status.pid}/)
  end

  it "stops a restarted node gracefully by a TERM during its boot" do
    setup = <<~'RUBY'
      Karafka.monitor.subscribe("swarm.node.after_fork") do
        Process.kill(:TERM, Process.pid) if File.exist?("again")
        File.write("again", "")
      end
    RUBY
    result = run_karafka(setup) do |app|
      first = app.wait_until_fetching(1).first
      app.wait_until_ready
      Process.kill(:KILL, first)
      told = app.wait_for(/^native\.node_exited \d+ exited .*\(exit 0\)/)
      expect(told.to_s).not_to include("SIGKILL")
      app.signal("TERM")
    end
    expect(result.status.exitstatus).to eq(0)
  end

  # A job that takes a while, and what a second TERM, more than a second after the first, makes of it.
  def second_term(setting)
    setup = <<~RUBY
      #{setting}
      class Consumer
        def consume
          say "working", Process.pid
          sleep 4
          say "worked", Process.pid
        end
      end
    RUBY
    topic = new_topic(partitions: 2)
    produce(topic, 1)
    run_karafka(setup, topic: topic) do |app|
      app.wait_until_ready
      app.wait_for(/^working/)
      app.signal("TERM")
      app.wait_for(/^app\.stopping #{app.pid}/)
      sleep 1.2
      app.signal("TERM")
    end
  end

  it "changes nothing on a second TERM, as Karafka does" do
    result = second_term("")
    expect(result.status.exitstatus).to eq(0)
    expect(result.out).to match(/^worked/)
    expect(result.out.scan(/^process\.notice_signal #{result.status.pid} SIGTERM$/).size).to eq(2)
    expect(result.out).not_to include("native.node_killed")
  end

  it "kills on a second TERM where that is set" do
    result = second_term("SwarmNative::Karafka.setup { |config| config.second_stop_kills = true }")
    expect(result.status.exitstatus).to eq(2)
    expect(result.out).not_to match(/^worked/)
    expect(result.out).to match(/^native\.node_killed/)
  end

  it "stops no node for missing reports while quiet" do
    setup = <<~RUBY
      Karafka::App.config.internal.swarm.node_report_timeout = 1_500
      Karafka::App.config.internal.swarm.liveness_interval = 100
      Karafka::App.config.internal.swarm.supervision_interval = 200
      Karafka.monitor.subscribe("swarm.manager.control") { say "control", Process.pid }
    RUBY
    result = run_karafka(setup) do |app|
      node = app.wait_until_fetching(1).first
      app.wait_until_ready
      app.signal("TSTP")
      app.wait_for(/^app\.quiet #{node}/)
      Process.kill(:STOP, node)
      looks = app.lines("control").size
      # Well over twice the time in which it had to report.
      wait_until(KarafkaApp::PATIENCE, "many looks") { app.lines("control").size > looks + 20 }
      expect(app.children).to eq([node])
      Process.kill(:CONT, node)
      app.signal("TERM")
    end
    expect(result.out).not_to include("swarm.manager.stopping")
    expect(result.status.exitstatus).to eq(0)
  end

  it "replaces one node after the other on HUP, and can be scaled" do
    setup = <<~'RUBY'
      Thread.new do
        sleep 0.05 until File.exist?("scale") || Process.ppid == 1
        Karafka::App.config.internal.swarm.manager.scale(3)
      end
    RUBY
    result = run_karafka(setup, nodes: 2) do |app|
      before = app.wait_until_fetching(2)
      app.wait_until_ready(2)
      app.signal("HUP")
      app.wait_for(/^native\.restarted/)
      expect(app.children & before).to eq([])
      File.write(File.join(app.process.scratch, "scale"), "")
      app.wait_until_fetching(5)
      expect(app.children.size).to eq(3)
      app.signal("TERM")
    end
    expect(result.status.exitstatus).to eq(0)
    expect(result.out.scan(/^native\.node_exited \d+ restart /).size).to eq(2)
  end

  it "answers the Kubernetes probe while quiet, on a socket that restarted nodes do not have" do
    port = TCPServer.open("127.0.0.1", 0) { |server| server.addr[1] }
    setup = <<~RUBY
      require "karafka/instrumentation/vendors/kubernetes/swarm_liveness_listener"
      Karafka::App.config.internal.swarm.supervision_interval = 200
      Karafka.monitor.subscribe(
        Karafka::Instrumentation::Vendors::Kubernetes::SwarmLivenessListener.new(
          hostname: "127.0.0.1", port: #{port}, controlling_ttl: 1_000
        )
      )
    RUBY
    result = run_karafka(setup) do |app|
      first = app.wait_until_fetching(1).first
      app.wait_until_ready
      Process.kill(:KILL, first)
      node = app.wait_until_fetching(2).last
      listening = File.readlines("/proc/net/tcp").map(&:split).find { |line| line[1] == format("0100007F:%04X", port) }
      files = ->(pid) { Dir.children("/proc/#{pid}/fd").map { |fd| File.readlink("/proc/#{pid}/fd/#{fd}") rescue nil } }
      expect(files.call(app.pid)).to include("socket:[#{listening[9]}]")
      expect(files.call(node)).not_to include("socket:[#{listening[9]}]")

      app.signal("TSTP")
      app.wait_for(/^app\.quiet #{app.pid}/)
      quiet_at = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      answers = []
      while Process.clock_gettime(Process::CLOCK_MONOTONIC) - quiet_at < 1.5
        answers << Net::HTTP.get_response("127.0.0.1", "/", port).code
      end
      expect(answers.uniq).to eq(["200"])
      app.signal("TERM")
    end
    expect(result.status.exitstatus).to eq(0)
  end
end
