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
