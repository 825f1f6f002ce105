import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.plugins.Plugin;

/**
 * One node of a search engine: SearchServer HOME PLUGIN,... SETTING=VALUE ...
 *
 * <p>Written for OpenSearch; with `org.elasticsearch` in place of its packages' names it is
 * Elasticsearch's, whose classes are called the same. A SIGTERM ends it cleanly.
 */
public final class SearchServer {
    /** Takes plug-ins from the class path, as the engine's own tests do. */
    private static final class ClassPathNode extends Node {
        ClassPathNode(Environment environment, List<Class<? extends Plugin>> plugins) {
            super(environment, plugins, false);
        }
    }

    public static void main(String[] words) throws Exception {
        Path home = Path.of(words[0]);
        Settings.Builder settings = Settings.builder().put("path.home", home);
        for (String word : Arrays.asList(words).subList(2, words.length)) {
            int sign = word.indexOf('=');
            settings.put(word.substring(0, sign), word.substring(sign + 1));
        }
        Node node = new ClassPathNode(environment(settings.build(), home), plugins(words[1]));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> close(node)));
        try {
            node.start();
        } catch (Throwable failure) {
            failure.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
        // All threads of a node are daemons.
        new CountDownLatch(1).await();
    }

    private static Environment environment(Settings settings, Path home) {
        return InternalSettingsPreparer.prepareEnvironment(
                settings, Map.of(), home.resolve("config"), () -> "node");
    }

    private static List<Class<? extends Plugin>> plugins(String names) throws Exception {
        List<Class<? extends Plugin>> found = new ArrayList<>();
        for (String name : names.split(",")) {
            found.add(Class.forName(name).asSubclass(Plugin.class));
        }
        return found;
    }

    private static void close(Node node) {
        try {
            node.close();
        } catch (Exception failure) {
            failure.printStackTrace();
        }
    }
}
