# frozen_string_literal: true

require "net/http"
require "socket"
require "support/karafka_app"

KarafkaApp::VERSIONS.each do |version|
  newest = version == KarafkaApp::VERSIONS.last

  RSpec.describe "a quiet drop-in swarm, Karafka #{version}", :kafka, :test_gems, karafka: version do
    # The gem's own, whichever Karafka runs on it.
    it "stops no node for missing reports", if: newest do
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
        # Longer than the time in which it had to report: they are 200 ms apart.
        wait_until(KarafkaApp::PATIENCE, "many looks") { app.lines("control").size > looks + 11 }
        expect(app.children).to eq([node])
        Process.kill(:CONT, node)
        app.signal("TERM")
      end
      expect(result.out).not_to include("swarm.manager.stopping")
      expect(result.status.exitstatus).to eq(0)
    end

    # Plain Karafka tells it no more from the first signal on.
    it "says that it looks after its nodes for as long as it takes them to stop", if: newest do
      setup = <<~RUBY
        Karafka::App.config.shutdown_timeout = 60_000
        Karafka::App.config.internal.swarm.supervision_interval = 100
        Karafka.monitor.subscribe("swarm.manager.control") { say "control", Process.pid }
        class Consumer
          def consume = (say "working"; sleep 0.01 until File.exist?("enough"))
        end
      RUBY
      topic = new_topic(partitions: 2)
      produce(topic, 1)
      result = run_karafka(setup, topic: topic) do |app|
        app.wait_until_ready
        app.wait_for(/^working/)
        app.signal("TERM")
        app.wait_for(/^app\.stopping #{app.pid}/)
        looks = app.lines("control").size
        wait_until(KarafkaApp::PATIENCE, "more looks") { app.lines("control").size > looks + 5 }
        File.write(File.join(app.process.scratch, "enough"), "")
      end
      expect(result.status.exitstatus).to eq(0)
    end

    # A swarm with Karafka's Kubernetes probe, which is asked once a node was replaced and all are quiet.
    # @yieldparam sockets [Proc] whether a process has the probe's socket
    # @yieldparam answer [Proc] the probe's status
    def with_probe(ttl, plain: false)
      port = TCPServer.open("127.0.0.1", 0) { |server| server.addr[1] }
      setup = <<~RUBY
        require "karafka/instrumentation/vendors/kubernetes/swarm_liveness_listener"
        Karafka::App.config.internal.swarm.supervision_interval = 200
        Karafka.monitor.subscribe(
          Karafka::Instrumentation::Vendors::Kubernetes::SwarmLivenessListener.new(
            hostname: "127.0.0.1", port: #{port}, controlling_ttl: #{ttl}
          )
        )
      RUBY
      result = run_karafka(setup, plain: plain) do |app|
        first = app.wait_until_fetching(1).first
        app.wait_until_ready
        Process.kill(:KILL, first)
        node = app.wait_until_fetching(2).last
        app.wait_until_ready(2)
        listening = File.readlines("/proc/net/tcp").map(&:split)
        inode = listening.find { |line| line[1] == format("0100007F:%04X", port) }[9]
        holders = [app.pid, node].select { |pid| files(pid).include?("socket:[#{inode}]") }
        app.signal("TSTP")
        app.wait_for(/^app\.quiet #{app.pid}/)
        yield app, node, holders, -> { Net::HTTP.get_response("127.0.0.1", "/", port).code }
        app.signal("TERM")
      end
      expect(result.status.exitstatus).to eq(0)
    end

    def files(pid)
      Dir.children("/proc/#{pid}/fd").filter_map do |fd|
        File.readlink("/proc/#{pid}/fd/#{fd}")
      rescue Errno::ENOENT
        nil
      end
    end

    it "answers the Kubernetes probe, on a socket that restarted nodes do not have" do
      with_probe(1_000) do |app, _node, holders, answer|
        expect(holders).to eq([app.pid])
        quiet_at = Process.clock_gettime(Process::CLOCK_MONOTONIC)
        answers = []
        answers << answer.call while Process.clock_gettime(Process::CLOCK_MONOTONIC) - quiet_at < 1.5
        expect(answers.uniq).to eq(["200"])
      end
    end

    it "differs from plain Karafka, whose probe fails then, on a socket that restarted nodes have too", if: newest do
      with_probe(500, plain: true) do |app, node, holders, answer|
        expect(holders).to eq([app.pid, node])
        wait_until(KarafkaApp::PATIENCE, "a probe that fails") { answer.call == "500" }
      end
    end
  end
end
