# frozen_string_literal: true

require "support/karafka_app"

KarafkaApp::VERSIONS.each do |version|
  newest = version == KarafkaApp::VERSIONS.last

  RSpec.describe "the drop-in and live librdkafka handles, Karafka #{version}", :kafka, :test_gems, karafka: version do
    it "runs an app whose supervisor has a producer of its own, restarts included, and gives nodes theirs" do
      setup = <<~'RUBY'
        $own = WaterDrop::Producer.new { |config| config.kafka = { "bootstrap.servers": ENV.fetch("APP_SERVERS") } }
        $own.produce_sync(topic: ENV.fetch("APP_TOPIC"), payload: "from karafka.rb")
        Karafka.monitor.subscribe("app.supervising") { $own.produce_sync(topic: ENV.fetch("APP_TOPIC"), payload: "up") }
        Karafka.monitor.subscribe("app.running") do
          Karafka.producer.produce_sync(topic: ENV.fetch("APP_TOPIC"), payload: "from-node")
          say "tags", Process.pid, Karafka::Process.tags.to_a.sort.join(",")
        end
      RUBY
      result = run_karafka(setup) do |app|
        first = app.wait_until_fetching(1).first
        app.wait_for(/^consumed \d+ from-node$/)
        app.wait_until_ready
        Process.kill(:KILL, first)
        app.wait_until_fetching(2)
        app.signal("TERM")
      end
      expect(result.status.exitstatus).to eq(0)
      expect(result.out).not_to include("error.occurred")
      expect(result.out.scan(/^tags \d+ mode:swarm,node:0$/).size).to eq(2)
    end

    # A handle that nobody can disconnect.
    def stranger = '$stranger = Rdkafka::Config.new("bootstrap.servers": ENV.fetch("APP_SERVERS")).producer'

    # Has the node replaced.
    # @yieldparam app [KarafkaApp::Running] once the node is killed
    # @return [RubyProcess::Result]
    def restart(setup)
      run_karafka(setup) do |app|
        first = app.wait_until_fetching(1).first
        app.wait_until_ready
        Process.kill(:KILL, first)
        yield app if block_given?
        app.wait_until_fetching(2)
        app.signal("TERM")
      end
    end

    it "refuses to start beside a handle that stays live, and names it" do
      result = run_karafka(stranger) { nil }
      expect(result.status.exitstatus).to eq(1)
      expect(result.err).to match(/ForkRefused/).and match(/Rdkafka::Producer .*example\.rb:\d+/)
    end

    it "differs from plain Karafka, which forks beside it and says nothing", if: newest do
      result = run_karafka(stranger, plain: true) do |app|
        app.wait_until_ready
        app.signal("TERM")
      end
      expect(result.err).to eq("")
      expect(result.out).not_to include("error.occurred")
    end

    # The gem's own, whichever Karafka runs on it.
    it "tells of a handle that stays live at a restart, and forks beside it in the end", if: newest do
      setup = %(Karafka.monitor.subscribe("app.supervising") { #{stranger} })
      result = restart(setup) { |app| app.wait_for(/^error\.occurred \d+ swarm\.supervisor\.error,.*Rdkafka::Producer/) }
      expect(result.status.exitstatus).to eq(0)
      expect(result.out).to include("forked beside a live librdkafka handle")
    end

    it "says nothing of such a handle where the guard is off", if: newest do
      setup = <<~RUBY
        SwarmNative::ForkGuard.mode = :off
        Karafka.monitor.subscribe("app.supervising") { #{stranger} }
      RUBY
      result = restart(setup)
      expect(result.status.exitstatus).to eq(0)
      expect(result.out).not_to include("error.occurred")
    end
  end
end
