# frozen_string_literal: true

require "json"

# What runs the spec files in parallel, on files of its own.
RSpec.describe "the queue of spec files" do
  # Runs the files (name => examples) and gives the outcomes by name.
  def run_queue(files, jobs: files.keys.map { |name| [name, false] }, file_deadline: 60)
    result = run_ruby(<<~'RUBY', library: nil, deadline: 90, args: [ROOT, file_deadline.to_s, files.to_json, jobs.to_json])
      require "json"
      root, file_deadline, files, jobs = ARGV
      require "#{root}/rakelib/spec_queue"
      JSON.parse(files).each { |name, examples| File.write(name, "RSpec.describe('it') { #{examples} }") }
      queue = SpecQueue.new(Dir.pwd, "times.json", file_deadline: file_deadline.to_f)
      seen = []
      outcomes = queue.run(JSON.parse(jobs).map { |job| SpecQueue::Job.new(*job) }) { |outcome| seen << outcome.job.title }
      puts JSON.generate(outcomes.to_h { |outcome| [outcome.job.title, outcome.to_h.except(:job)] })
      puts JSON.generate(seen), File.read("times.json")
    RUBY
    expect(result).to be_success
    @seen, @times = result.out.lines.last(2).map { |line| JSON.parse(line) }
    JSON.parse(result.out.lines.first)
  end

  it "counts what passed, failed and was skipped, and names what failed" do
    outcomes = run_queue({
      "a_spec.rb" => "it('is') { }; it('is too') { }",
      "b_spec.rb" => "it('is') { }; it('is not') { raise 'oh no' }; it('waits', skip: true) { }"
    })
    expect(outcomes["a_spec.rb"]).to include("passed" => 2, "failed" => 0, "skipped" => 0, "failures" => [])
    expect(outcomes["b_spec.rb"]).to include("passed" => 1, "failed" => 1, "skipped" => 1,
                                             "failures" => ["b_spec.rb:1 it is not"])
    expect(outcomes["b_spec.rb"]["output"]).to match(/oh no/)
    expect(@seen).to match_array(%w[a_spec.rb b_spec.rb])
    expect(@times.keys).to match_array(%w[a_spec.rb b_spec.rb])
  end

  it "takes a process that ends without a result for a failure" do
    outcomes = run_queue({
      "killed_spec.rb" => "it('dies') { Process.kill(:KILL, Process.pid); sleep }",
      "left_spec.rb" => "it('leaves') { exit!(0) }",
      "broken_spec.rb" => "this is not Ruby (",
      "late_spec.rb" => "it('is') { }; at_exit { exit!(7) }"
    })
    expect(outcomes.transform_values { |outcome| outcome["failed"] })
      .to eq("killed_spec.rb" => 1, "left_spec.rb" => 1, "broken_spec.rb" => 1, "late_spec.rb" => 1)
    expect(outcomes["killed_spec.rb"]["failures"].first).to match(/killed_spec\.rb gave no result: .*SIGKILL/)
  end

  it "kills and reports what a file leaves running" do
    outcomes = run_queue({ "leaky_spec.rb" => "it('forks') { puts fork { sleep } }" })
    expect(outcomes["leaky_spec.rb"]).to include("passed" => 1, "failed" => 1)
    expect(outcomes["leaky_spec.rb"]["failures"].first).to match(/left processes behind/)
  end

  it "kills a file that hangs" do
    outcomes = run_queue({ "hanging_spec.rb" => "it('hangs') { sleep }" }, file_deadline: 5)
    expect(outcomes["hanging_spec.rb"]).to include("failed" => 1)
    expect(outcomes["hanging_spec.rb"]["failures"].first).to match(/no end within 5\.0 s/)
  end

  it "runs what is tagged for GC.stress a second time, with the mark for run_ruby" do
    examples = "it('is', :gc_stress) { raise 'no mark' unless ENV['SPEC_GC_STRESS'] == '1' }; it('is not') { raise }"
    outcomes = run_queue({ "a_spec.rb" => examples }, jobs: [["a_spec.rb", true]])
    expect(outcomes["a_spec.rb (GC.stress)"]).to include("passed" => 1, "failed" => 0)
  end

  it "starts with what took longest the last time" do
    result = run_ruby(<<~'RUBY', library: nil, deadline: 60, args: [ROOT])
      require "json"
      require "#{ARGV.first}/rakelib/spec_queue"
      %w[a b c].each { |name| File.write("#{name}_spec.rb", "RSpec.describe('it') { it { } }") }
      File.write("times.json", JSON.generate("a_spec.rb" => 1, "b_spec.rb" => 9, "c_spec.rb" => 5))
      jobs = %w[a b c].map { |name| SpecQueue::Job.new("#{name}_spec.rb", false) }
      SpecQueue.new(Dir.pwd, "times.json", workers: 1).run(jobs) { |outcome| puts outcome.job.title }
    RUBY
    expect(result.out.split).to eq(%w[b_spec.rb c_spec.rb a_spec.rb])
  end
end
