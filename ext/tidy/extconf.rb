# frozen_string_literal: true

# RubyGems runs this when cargo has built the extension and the library lies in lib/. RubyGems before 3.4 lets cargo
# build in the folder of the gem's extensions and leaves everything there: some 400 MB that nothing needs any more.

require "fileutils"

gem_folder = File.expand_path("../..", __dir__)
home = File.expand_path("../..", gem_folder)
built = File.join(home, "extensions", Gem::Platform.local.to_s, Gem.extension_api_version, File.basename(gem_folder))
if File.exist?(File.join(gem_folder, "lib", "karafka_swarm.so")) && !File.symlink?(File.join(built, "release"))
  FileUtils.rm_rf(%w[build deps examples incremental .fingerprint].map { |name| File.join(built, "release", name) })
end

# RubyGems makes what an extconf.rb has configured; before 3.4 it insists.
File.write("Makefile", "all clean install:\n\t@:\n")
