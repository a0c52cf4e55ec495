# frozen_string_literal: true

require "support/karafka_app"

KarafkaApp::VERSIONS.each do |version|
  RSpec.describe "the drop-in on Karafka #{version}", :kafka, :test_gems, karafka: version do
    it "consumes in as many nodes as are set, and stops on TERM with exit code 0 and Karafka's events in order" do
      topic = new_topic(partitions: 2)
      produce(topic, 10)
      result = run_karafka(nodes: 2, topic: topic) do |app|
        app.wait_until_fetching(2)
        wait_until(KarafkaApp::PATIENCE, "all messages") { app.lines("consumed").map { |line| line.split[2] }.uniq.size == 10 }
        expect(app.children).to match_array(app.fetching)
        app.signal("TERM")
      end
      expect(result.status.exitstatus).to eq(0)
      expect(result.err).to eq("")
      supervisor = result.status.pid
      told = result.out.lines.map(&:split).select { |_, pid| pid == supervisor.to_s }.map { |name, _, details| [name, *details] }
      told.reject! { |name, details| name == "process.notice_signal" && details == "SIGCHLD" }
      expect(told).to eq([
        %w[swarm.manager.before_fork 0], %w[swarm.manager.after_fork 0],
        %w[swarm.manager.before_fork 1], %w[swarm.manager.after_fork 1],
        %w[app.supervising], %w[process.notice_signal SIGTERM],
        %w[app.stopping], %w[app.stopped], %w[app.terminated]
      ])
    end

    # What a swarm tells on Karafka's monitor while a node says that it is not well, is replaced, and all is stopped.
    # @return [Hash{String => Array<String>}] of the supervisor and of its nodes, each event with the keys of its payload
    def told(plain:)
      setup = <<~'RUBY'
        supervisor = Process.pid
        kinds = /\A(swarm|process|app)\.|\Aerror\.occurred\z/
        Karafka::Instrumentation::Notifications::EVENTS.grep(kinds).each do |name|
          Karafka.monitor.subscribe(name) do |event|
            who = Process.pid == supervisor ? "supervisor" : "node-#{Process.pid}"
            keys = event.payload.map { |key, value| %i[signal status type].include?(key) ? "#{key}=#{value}" : key }
            say "told", who, name, keys.join(",")
          end
        end
        Karafka.monitor.subscribe("app.supervising") { File.write("supervising", "") }
        Karafka.monitor.subscribe("app.running") do
          first = !File.exist?("done")
          File.write("done", "")
          Thread.new do
            sleep 0.01 until fetching && File.exist?("supervising")
            Karafka::App.config.swarm.node.unhealthy(7) if first
          end
        end
      RUBY
      result = run_karafka(setup, plain: plain) do |app|
        app.wait_until_fetching(2)
        app.wait_for(/^told supervisor swarm\.manager\.control/)
        app.signal("TERM")
      end
      told = result.out.scan(/^told (\S+) (.*)$/).group_by(&:first).transform_values { |lines| lines.map(&:last) }
      # How often the supervisor looks, and hears of children's ends, is not the same.
      supervisor = told.delete("supervisor")
      looks, others = supervisor.partition { |line| line.match?(/swarm\.manager\.control|signal=SIGCHLD/) }
      # Plain Karafka tells of a signal twice in a restarted node.
      { "looks" => looks.uniq.sort, "supervisor" => others, "nodes" => told.values.map(&:uniq) }
    end

    it "passes the options of the command on to its nodes" do
      left_out, wanted = new_topic(partitions: 2), new_topic(partitions: 2)
      produce(left_out, 1, "left-out")
      produce(wanted, 1, "wanted")
      result = run_karafka(topic: "#{left_out},#{wanted}", args: ["--include-topics", wanted]) do |app|
        app.wait_for(/^consumed \d+ wanted-0/)
        # A replacement too.
        app.signal("HUP")
        app.wait_until_fetching(2)
        produce(wanted, 2, "more")
        app.wait_for(/^consumed #{app.fetching.last} more-1/)
        app.signal("TERM")
      end
      expect(result.out).not_to include("left-out")
      expect(result.status.exitstatus).to eq(0)
    end

    it "tells what Karafka tells, in the same order, with the same payloads" do
      plain = told(plain: true)
      expect(plain["supervisor"].size).to be >= 10
      expect(plain["nodes"].size).to eq(2)
      expect(told(plain: false)).to eq(plain)
    end

    it "tells of a node that had to be killed with Karafka's payload" do
      env = { "APP_KARAFKA" => version, **test_gems_env }
      result = run_ruby(<<~'RUBY', env: env, deadline: KarafkaApp::PATIENCE)
        gem "karafka", "= #{ENV.fetch("APP_KARAFKA")}"
        require "karafka"
        require "swarm_native/karafka"
        Karafka.monitor.subscribe("swarm.manager.terminating") { |event| p event.payload.keys }
        loop = Struct.new(:manager, :stopping?) { def face(id) = "node #{id}" }
        killed = SwarmNative::Event.new(name: :node_killed, node_id: 0, reason: "hung")
        SwarmNative::Karafka::Events.publish(loop.new(nil, false), killed)
        SwarmNative::Karafka::Events.publish(loop.new(nil, true), killed)
      RUBY
      # Karafka's own keys, of a block that it measures; while the swarm stops it tells of no single node.
      expect(result.out).to eq("[:caller, :node, :time]\n")
    end
  end
end
