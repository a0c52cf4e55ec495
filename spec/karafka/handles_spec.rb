# frozen_string_literal: true

require "support/karafka_app"

RSpec.describe "the drop-in and live librdkafka handles", :karafka, :kafka, :test_gems do
  OPEN_PRODUCER = <<~'RUBY'
    $own = WaterDrop::Producer.new { |config| config.kafka = { "bootstrap.servers": ENV.fetch("APP_SERVERS") } }
    $own.produce_sync(topic: ENV.fetch("APP_TOPIC"), payload: "from karafka.rb")
  RUBY

  it "runs an app whose supervisor has a producer of its own, restarts included, and gives nodes theirs" do
    setup = <<~RUBY
      #{OPEN_PRODUCER}
      Karafka.monitor.subscribe("app.supervising") { $own.produce_sync(topic: ENV.fetch("APP_TOPIC"), payload: "up") }
      Karafka.monitor.subscribe("app.running") do
        Karafka.producer.produce_sync(topic: ENV.fetch("APP_TOPIC"), payload: "from-node")
        say "tags", Process.pid, Karafka::Process.tags.to_a.sort.join(",")
      end
    RUBY
    result = run_karafka(setup) do |app|
      first = app.wait_until_fetching(1).first
      wait_until(KarafkaApp::PATIENCE, "its own message") { app.lines("consumed").any? { |line| line.end_with?("from-node") } }
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
  STRANGER = '$stranger = Rdkafka::Config.new("bootstrap.servers": ENV.fetch("APP_SERVERS")).producer'

  it "refuses to start beside a handle that stays live, and names it" do
    result = run_karafka(STRANGER) { nil }
    expect(result.status.exitstatus).to eq(1)
    expect(result.err).to match(/ForkRefused/).and match(/Rdkafka::Producer .*example\.rb:\d+/)
  end

  it "tells of a handle that stays live at a restart, and forks beside it in the end" do
    setup = %(Karafka.monitor.subscribe("app.supervising") { #{STRANGER} })
    result = run_karafka(setup) do |app|
      first = app.wait_until_fetching(1).first
      app.wait_until_ready
      Process.kill(:KILL, first)
      app.wait_for(/^error\.occurred \d+ swarm\.supervisor\.error,.*Rdkafka::Producer/)
      app.wait_until_fetching(2)
      app.signal("TERM")
    end
    expect(result.status.exitstatus).to eq(0)
    expect(result.out).to include("forked beside a live librdkafka handle")
  end
end
