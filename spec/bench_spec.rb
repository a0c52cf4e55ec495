# frozen_string_literal: true

require "json"
require "rbconfig"
require_relative "support/on_real_kafka"
require_relative "support/test_gems"

RSpec.describe "bin/bench" do
  # In a process of its own; bin/bench itself would set up what is set up already.
  def bench(*arguments, deadline: 10, &block)
    program = [RbConfig.ruby, File.join(ROOT, "bench", "run.rb"), *arguments]
    run_ruby("exec(*#{program.inspect})", deadline: deadline, library: nil, &block)
  end

  # The pidfd benchmark compares with ffi, which `bin/bench` installs and the specs do not need.
  def ffi?
    system(RbConfig.ruby, "-rffi", "-e", "", err: File::NULL)
  end

  it "prints each figure beside those of others, and writes it as a JSON object a line", :aggregate_failures do
    figures = nil
    names = [*("pidfd" if ffi?), "replace", "orphan", "idle"]
    result = bench("--quick", "--json", "figures", *names, deadline: 240) do |running|
      wait_until(240, "the last figure") { running.out.match?(/goals met/) }
      figures = File.readlines(File.join(running.scratch, "figures")).map { |line| JSON.parse(line) }
    end
    expect(result).to be_success, result.inspect
    expect(figures).to all(include("name" => String, "unit" => String, "ours" => Numeric, "others" => Hash))
    expect(figures.map(&:keys).uniq).to eq([%w[name unit ours others ratio goal met]])
    expect(figures.map { |figure| figure["name"].split.first }.uniq).to eq(names)
    expect(figures.map { |figure| [figure["goal"].nil?, figure["met"].nil?] }.uniq - [[true, true], [false, false]]).to eq([])
    figures.each do |figure|
      expect(result.out).to include("#{figure["name"]}: #{figure["ours"]} #{figure["unit"]}")
    end
  end

  # Karafka's need minutes.
  it "measures Kafka's clients and nodes to their end", :real_kafka, :test_gems do
    result = bench("--quick", "kafka", "kafka_nodes", deadline: 240) do |running|
      wait_until(240, "the last figure") { running.out.match?(/goals met/) }
    end
    expect(result).to be_success, result.inspect
    figures = ["produce_many against a plain program", "poll_batch beside a busy thread against poll",
               "one acknowledged message p99", "one message from produce to consume p50", "poll_batch against Kafka's tool",
               "a job that burns CPU on two nodes"]
    expect(result.out).to include(*figures.map { |name| "  #{name}: " })
  end

  it "names the benchmarks that there are when it does not know one" do
    expect(bench("pidfd", "speed"))
      .to have_attributes(success?: false, err: /\Ano such benchmark: speed; there are .*idle, .*orphan, .*pidfd, /)
  end
end
